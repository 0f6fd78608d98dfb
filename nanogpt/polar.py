"""The orthogonal factor of a matrix, which is what Muon takes of a gradient. It has no hyperparameters.

Agents may read this file but never change it.
"""

from __future__ import annotations

from torch import Tensor

STEPS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
"""Coefficients of the five steps of Polar Express (Amsel et al. 2025), for singular values from 1e-3 on."""


def orthogonalise(g: Tensor) -> Tensor:
    """Return the nearest (semi-)orthogonal matrix to each of a stack (n, rows, columns), without an SVD.

    Each step applies a x + b x^3 + c x^5 to the singular values, which brings them close to 1.
    """
    x = g.mT if g.size(-2) > g.size(-1) else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-6)
    if g.device.type == "cuda":
        x = x.bfloat16()
    for a, b, c in STEPS:
        s = x @ x.mT
        x = a * x + (b * s + c * (s @ s)) @ x
    result: Tensor = x.mT if g.size(-2) > g.size(-1) else x
    return result.float()
