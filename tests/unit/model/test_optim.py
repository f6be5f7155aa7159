import torch

from editsweep.model.optim import RowAdam


def test_rows_step_as_torch_adam_steps_each_alone():
    dice = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=dice)
    gradients = torch.randn(6, 3, 4, generator=dice)
    together = start.clone()
    adam = RowAdam.of(together, 0.1)
    for gradient in gradients:
        adam.step(together, gradient)
    for row in range(3):
        alone = start[row].clone().requires_grad_()
        reference = torch.optim.Adam([alone], lr=0.1)
        for gradient in gradients:
            alone.grad = gradient[row].clone()
            reference.step()
        torch.testing.assert_close(together[row], alone.detach(), rtol=1e-6, atol=1e-6)


def test_a_row_that_leaves_does_not_disturb_the_others():
    gradients = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(1))
    whole = torch.zeros(3, 2)
    adam = RowAdam.of(whole, 0.1)
    part = torch.zeros(3, 2)
    leaving = RowAdam.of(part, 0.1)
    stay = torch.tensor([0, 2])
    for step, gradient in enumerate(gradients):
        adam.step(whole, gradient)
        if step == 2:
            part, leaving = part[stay], leaving.select(stay)
        leaving.step(part, gradient if step < 2 else gradient[stay])
    assert torch.equal(part, whole[stay])
