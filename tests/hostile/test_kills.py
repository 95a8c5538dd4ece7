"""A run that is killed leaves whole results and no other; `python -m tools.attack` kills more often."""

import math
import random

from tools.attack.kills import kill_and_check


def test_a_killed_run_leaves_whole_results_and_the_next_goes_on(tmp_path):
    fates = list(kill_and_check(tmp_path, random.Random(0), 2, math.inf))
    assert [fault for _, fault in fates] == [None, None, None]
    assert "killed half-way" in {fate for fate, _ in fates}
