"""The network, its training, its file, its features: the only torch code."""

import os

# On Linux, torch's threads wait for each other by spinning. When anything else wants a core, as a
# window does, each step then waits for a spinner to be descheduled: measured on 2 cores with one of
# them busy, 1.2 s a training step, against 0.4 s with a short spin; on idle cores 0.08 and 0.10 s.
# Read when torch is first imported; what the user has set counts.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")
