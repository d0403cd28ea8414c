import sys
from pathlib import Path

# random_images.py beside these tests
sys.path.insert(0, str(Path(__file__).parent))
