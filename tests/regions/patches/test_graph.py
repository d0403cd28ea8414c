import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from napari_aeseg.regions.patches.graph import averaged, averaging_matrix, region_graph

labellings = arrays(
    np.int32, array_shapes(min_dims=1, max_dims=3, max_side=6), elements=st.integers(0, 5)
)


def borders(patches: np.ndarray) -> dict[tuple[int, int], int]:
    """Length of the border of every pair of touching patches, pixel by pixel."""
    found: dict[tuple[int, int], int] = {}
    for index in np.ndindex(patches.shape):
        for axis in range(patches.ndim):
            other = tuple(i + (a == axis) for a, i in enumerate(index))
            if other[axis] < patches.shape[axis] and patches[index] != patches[other]:
                pair = tuple(sorted((int(patches[index]), int(patches[other]))))
                found[pair] = found.get(pair, 0) + 1
    return found


@given(labellings)
def test_edges_and_borders_are_those_of_a_pixel_by_pixel_count(patches):
    graph = region_graph(patches)
    found = dict(zip(map(tuple, graph.edges.tolist()), graph.border.tolist(), strict=True))
    assert found == borders(patches)
    assert graph.number == patches.max() + 1


@given(labellings)
def test_every_edge_once_in_order_smaller_id_first(patches):
    edges = region_graph(patches).edges
    assert edges.shape == (len(edges), 2)
    assert (edges[:, 0] < edges[:, 1]).all()
    pairs = list(map(tuple, edges.tolist()))
    assert pairs == sorted(set(pairs))


def test_touching_at_a_corner_is_not_touching():
    assert region_graph(np.array([[0, 1], [1, 0]])).border.tolist() == [4]
    assert region_graph(np.array([[0, 2], [1, 3]])).edges.tolist() == [
        [0, 1],
        [0, 2],
        [1, 3],
        [2, 3],
    ]


def test_many_ids_do_not_run_over():
    patches = np.arange(70_000, dtype=np.int32).reshape(1, -1)
    edges = region_graph(patches).edges
    assert np.array_equal(edges, np.stack([patches[0, :-1], patches[0, 1:]], axis=1))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_average_is_over_itself_and_its_neighbours(steps):
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 12, (9, 10))
    graph = region_graph(patches)
    values, weight = rng.random((12, 3)), rng.integers(1, 20, 12).astype(float)
    touches = np.eye(12)
    touches[graph.edges[:, 0], graph.edges[:, 1]] = touches[
        graph.edges[:, 1], graph.edges[:, 0]
    ] = 1
    expected = values
    for _ in range(steps):
        expected = np.stack([np.average(expected, axis=0, weights=row * weight) for row in touches])
    np.testing.assert_allclose(
        averaged(averaging_matrix(graph, weight, values.dtype), values, steps), expected
    )


def test_no_step_and_no_neighbour_change_nothing():
    graph = region_graph(np.array([[0, 1]]))
    values = np.array([[1.0], [5.0]])
    assert np.array_equal(averaged(averaging_matrix(graph, np.ones(2), float), values, 0), values)
    alone = region_graph(np.zeros((3, 3), int))
    assert averaged(averaging_matrix(alone, np.ones(1), float), np.array([[4.0]]), 3).tolist() == [
        [4.0]
    ]


def test_averaging_keeps_constants_and_the_input():
    graph = region_graph(np.arange(9).reshape(3, 3))
    values = np.full((9, 2), 3, np.float32)
    found = averaged(averaging_matrix(graph, np.arange(1.0, 10), np.float32), values, 4)
    np.testing.assert_allclose(found, 3, rtol=1e-5)
    assert found.dtype == np.float32
    assert (values == 3).all()
