import gc
import sys
from pathlib import Path

import pytest

# injected.py beside these tests, outputs.py and kills.py among the scripts
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "soak")]


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Spare `gc.collect` what was there before: torch and napari alone take half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
