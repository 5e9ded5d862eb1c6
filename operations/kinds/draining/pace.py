"""How often a drain looks at what, and how long it believes what it sees."""

from datetime import timedelta

PAUSE_SECONDS = 0.5
TROUBLE_SECONDS = 2.0
ASK_AGAIN_SECONDS = 3.0
BUDGETS_EVERY_SECONDS = 3.0
NODES_EVERY_SECONDS = 10.0
LAG_SECONDS = 5.0  # until the controller of budgets has counted
BELIEVE_SECONDS = 30.0  # an API server that has just begun refuses what it will allow in a moment
STOP_SECONDS = 30.0  # how long a block must last before "stop" believes it
END_MARGIN = timedelta(seconds=30)  # what a kubelet may need beyond the grace period
