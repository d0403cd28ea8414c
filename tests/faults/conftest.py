import sys
from pathlib import Path

# injected.py beside these tests, outputs.py and kills.py among the scripts
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "soak")]
