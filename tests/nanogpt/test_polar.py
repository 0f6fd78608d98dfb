"""polar.py: what it returns is nearly orthogonal."""

from __future__ import annotations

import pytest
import torch
from polar import orthogonalise


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 32, 8), (2, 8, 32)])
def test_orthogonalised_matrices_have_singular_values_close_to_one(shape: tuple[int, int, int]) -> None:
    found = orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.svdvals(found)
    assert found.shape == shape
    assert 0.8 < float(values.min()) <= float(values.max()) < 1.2
