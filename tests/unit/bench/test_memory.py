import torch

from editsweep.bench.memory import Peak


def test_the_peak_is_what_was_held_at_once():
    # A heap that has grown before: what is freed under something that stays is not given back.
    for _ in range(3):
        freed = [torch.ones(2**22) for _ in range(8)]
        stays = [torch.ones(2**20) for _ in range(4)]
        del freed
    with Peak() as small:
        torch.ones(2**20).sum()
    with Peak() as large:
        held = [torch.ones(2**22) for _ in range(8)]
        del held
    assert len(stays) == 4
    assert 100 < large.megabytes < 200
    assert small.megabytes < large.megabytes / 4
