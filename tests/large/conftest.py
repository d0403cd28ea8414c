import sys
from pathlib import Path

# random_images.py among the laws
sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))
