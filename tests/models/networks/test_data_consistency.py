import pytest
import torch

from recond_kernels.layout import CoilLayout
from recond_kernels.operators.sense import SenseEncoding
from recond_models.networks.data_consistency import Directions, first_fit, fit

ROWS, COLUMNS, COILS = 12, 10, 3


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(3)
    maps = torch.randn(COILS, ROWS, COLUMNS, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(dim=0).sqrt()
    mask = torch.rand(1, ROWS, COLUMNS, generator=generator) < 0.6
    encoding = SenseEncoding(maps, mask, CoilLayout((COILS,)))
    truth = torch.randn(1, ROWS, COLUMNS, dtype=torch.complex64, generator=generator)
    proposal = truth + 0.3 * torch.randn(1, ROWS, COLUMNS, dtype=torch.complex64, generator=generator)
    return encoding, encoding.adjoint(encoding(truth)), proposal


def dense(normal):
    """The operator as a matrix."""
    unit = torch.eye(ROWS * COLUMNS, dtype=torch.complex64).reshape(-1, 1, ROWS, COLUMNS)
    return torch.stack([normal(column).flatten() for column in unit], dim=1)


@pytest.mark.parametrize("weight", [0.05, 0.7])
def test_solves_the_regularised_normal_equations(problem, weight):
    encoding, data, proposal = problem
    matrix = dense(encoding.gram) + weight * torch.eye(ROWS * COLUMNS)
    expected = torch.linalg.solve(matrix, (data + weight * proposal).flatten()).reshape(proposal.shape)
    images, misfits = fit(proposal, data, torch.tensor([weight]), encoding.gram, 60)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(misfits, encoding.gram(images) - data, atol=1e-4, rtol=1e-4)


def test_gradients_are_those_of_the_solution(problem):
    encoding, data, proposal = problem
    weight = torch.tensor([0.3])
    target = torch.ones_like(proposal)

    def error(images):
        return torch.view_as_real(images - target).square().sum()

    leaves = proposal.clone().requires_grad_(), weight.clone().requires_grad_()
    error(fit(*(leaves[0], data, leaves[1]), encoding.gram, 60)[0]).backward()

    matrix = dense(encoding.gram)
    others = proposal.clone().requires_grad_(), weight.clone().requires_grad_()
    right = data.flatten() + others[1] * others[0].flatten()
    error(torch.linalg.solve(matrix + others[1] * torch.eye(ROWS * COLUMNS), right).reshape(proposal.shape)).backward()
    for ours, theirs in zip(leaves, others, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=2e-3, rtol=2e-3)


def test_gradient_of_an_early_stop_is_that_of_the_stopped_iteration(problem):
    encoding, data, proposal = problem
    generator = torch.Generator().manual_seed(8)
    target = torch.randn(proposal.shape, dtype=torch.complex64, generator=generator)
    weight = torch.tensor([0.05])

    def error(images):
        fitted, _ = fit(images, data, weight, encoding.gram, 3)
        return torch.view_as_real(fitted - target).double().square().sum()

    leaf = proposal.clone().requires_grad_()
    error(leaf).backward()
    for _ in range(4):
        direction = torch.randn(proposal.shape, dtype=torch.complex64, generator=generator)
        step = 1e-2
        with torch.no_grad():
            slope = (error(proposal + step * direction) - error(proposal - step * direction)) / (2 * step)
        along = (leaf.grad.conj() * direction).sum().real
        # The coefficients of the iteration are held fixed, so a few percent of the length of the gradient are left.
        assert abs(float(slope) - float(along)) < 0.1 * float(leaf.grad.abs().square().sum().sqrt())


def test_a_proposal_that_fits_stays(problem):
    encoding, _, proposal = problem
    data = encoding.gram(proposal)
    images, misfits = fit(proposal, data, torch.tensor([0.1]), encoding.gram, 5)
    torch.testing.assert_close(images, proposal)
    assert misfits.abs().max() < 1e-5


def test_first_fit_is_a_fit_of_zeros(problem):
    encoding, data, _ = problem
    weight = torch.tensor([0.05])
    expected = fit(torch.zeros_like(data), data, weight, encoding.gram, 3)
    for ours, theirs in zip(first_fit(data, weight, encoding.gram, 3), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frames_do_not_mix(problem):
    encoding, data, proposal = problem
    both = SenseEncoding(
        torch.cat([encoding.sensitivities, encoding.sensitivities.flip(1)]),
        torch.cat([encoding.masks, ~encoding.masks]),
        CoilLayout((COILS, COILS)),
    )
    other = torch.randn(1, ROWS, COLUMNS, dtype=torch.complex64)
    together = fit(torch.cat([proposal, other]), torch.cat([data, other]), torch.tensor([0.1, 0.9]), both.gram, 6)[0]
    alone = fit(proposal, data, torch.tensor([0.1]), encoding.gram, 6)[0]
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=1e-5)


def test_weights_of_pixels_solve_and_differentiate_as_those_of_a_frame_do(problem):
    encoding, data, proposal = problem
    generator = torch.Generator().manual_seed(5)
    weights = 0.1 + torch.rand(1, ROWS, COLUMNS, generator=generator)
    matrix = dense(encoding.gram)
    target = torch.ones_like(proposal)
    ours, theirs = weights.clone().requires_grad_(), weights.clone().requires_grad_()
    images, _ = fit(proposal, data, ours, encoding.gram, 60)
    right = data.flatten() + theirs.flatten() * proposal.flatten()
    expected = torch.linalg.solve(matrix + torch.diag(theirs.flatten()), right).reshape(proposal.shape)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=1e-4)
    for result in (images, expected):
        torch.view_as_real(result - target).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=5e-3, rtol=5e-3)


def test_a_profile_of_frequencies_solves_and_differentiates(problem):
    encoding, data, proposal = problem
    generator = torch.Generator().manual_seed(6)
    weights = 0.1 + torch.rand(1, ROWS, COLUMNS, generator=generator)
    profile = 0.5 + torch.rand(1, ROWS, COLUMNS, generator=generator)
    matrix = dense(encoding.gram)
    fourier = dense(lambda images: torch.fft.fft2(images, norm="ortho"))
    target = torch.ones_like(proposal)
    ours, theirs = ([one.clone().requires_grad_() for one in (weights, profile)] for _ in range(2))
    images, misfits = fit(proposal, data, ours[0], encoding.gram, 60, ours[1])
    roots = torch.diag(theirs[0].flatten().sqrt()).to(torch.complex64)
    penalty = roots @ fourier.mH @ torch.diag(theirs[1].flatten()).to(torch.complex64) @ fourier @ roots
    expected = torch.linalg.solve(matrix + penalty, data.flatten() + penalty @ proposal.flatten()).reshape(
        proposal.shape
    )
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(misfits, encoding.gram(images.detach()) - data, atol=1e-4, rtol=1e-4)
    for result in (images, expected):
        torch.view_as_real(result - target).square().sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, atol=5e-3, rtol=5e-3)


def test_earlier_directions_bring_a_fit_nearer_without_more_uses_of_the_operator(problem):
    encoding, data, proposal = problem
    used = []

    def normal(images):
        used.append(1)
        return encoding.gram(images)

    weight = torch.tensor([1e-3])
    expected = torch.linalg.solve(
        dense(encoding.gram) + 1e-3 * torch.eye(ROWS * COLUMNS), (data + 1e-3 * proposal).flatten()
    ).reshape(proposal.shape)
    errors, costs = [], []
    for directions in (None, Directions(12)):
        used.clear()
        first_fit(data, weight, normal, 8, directions)
        images, misfits = fit(proposal, data, weight, normal, 4, None, directions)
        errors.append(float((images - expected).norm()))
        costs.append(len(used))
        torch.testing.assert_close(misfits, encoding.gram(images) - data, atol=1e-4, rtol=1e-4)
    assert costs[0] == costs[1]
    assert errors[1] < 0.85 * errors[0]


def test_gradient_with_earlier_directions_is_that_of_what_was_computed(problem):
    encoding, data, proposal = problem
    generator = torch.Generator().manual_seed(9)
    target = torch.randn(proposal.shape, dtype=torch.complex64, generator=generator)
    weight, profile = torch.tensor([0.05]), 0.5 + torch.rand(1, ROWS, COLUMNS, generator=generator)

    def error(images):
        directions = Directions(16)
        first_fit(data, weight, encoding.gram, 6, directions)
        fitted, _ = fit(images, data, weight, encoding.gram, 3, profile, directions)
        return torch.view_as_real(fitted - target).double().square().sum()

    leaf = proposal.clone().requires_grad_()
    error(leaf).backward()
    # The coefficients of the iteration are held fixed in the derivative; at a fixed point of the samples they hardly matter.
    change = torch.randn(proposal.shape, dtype=torch.complex64, generator=generator)
    with torch.no_grad():
        step = 1e-3
        numeric = float(error(proposal + step * change) - error(proposal - step * change)) / (2 * step)
    ours = float((leaf.grad.conj() * change).real.sum())
    assert ours == pytest.approx(numeric, rel=0.1, abs=0.1)


def test_directions_of_a_fit_that_has_converged_do_no_harm(problem):
    _, data, proposal = problem
    directions = Directions(24)
    weight = torch.tensor([0.9])

    def normal(images):
        return images.clone()

    first_fit(data, weight, normal, 16, directions)
    images, misfits = fit(proposal, data, weight, normal, 4, None, directions)
    torch.testing.assert_close(images, (data + 0.9 * proposal) / 1.9, atol=1e-5, rtol=1e-5)
    assert torch.isfinite(torch.view_as_real(misfits)).all()
