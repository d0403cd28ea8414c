import sys
from pathlib import Path

# Scripts beside the package, not part of it
sys.path.insert(0, str(Path(__file__).parents[2] / "soak"))
