import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # for faulty_fs, which the tests of the engine use, too
