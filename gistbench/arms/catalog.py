"""Every arm by name. A new arm is one file and one line here. Imports torch through the arms."""

from __future__ import annotations

from gistbench.arms.base import Arm
from gistbench.arms.full import Full
from gistbench.arms.full_tuned import FullTuned
from gistbench.arms.gist import Gist
from gistbench.arms.none import NoContext
from gistbench.arms.swapped import Swapped

ARMS: dict[str, Arm] = {
    arm.name: arm for arm in (Gist(), Full(), FullTuned(), NoContext(), Swapped())
}
