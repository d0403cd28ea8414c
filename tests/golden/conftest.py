import sys
from pathlib import Path

# What the files give is told by the script that made them.
sys.path.insert(0, str(Path(__file__).parent))
