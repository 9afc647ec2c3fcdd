"""Orthogonal matrices that spread what sits in one channel over all: Hadamard's with random signs.

A Hadamard matrix of order n holds only 1 and -1, with rows at right angles: H H^T = n I. Here n = 2^k m, where the power of two is
Sylvester's, and m is 1 or an order that Paley's constructions give: q + 1 for a prime q = 3 mod 4, 2 (q + 1) for a prime
q = 1 mod 4. Where no such m fits, the odd part of n takes a random orthogonal matrix instead. Sources: Sylvester 1867; Paley, "On
orthogonal matrices", 1933; Stewart, SIAM J. Numer. Anal. 17(3), 1980, for random orthogonal matrices as reflections;
Ashkboos et al., QuaRot, arXiv 2404.00456, section 3, for random signs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from netweight.errors import ModelError

PART = 32  # rows of a dense product: fewer passes over memory than butterflies, more products than they need


def paley_part(n: int) -> int | None:
    """The smallest m such that n / m is a power of two and Paley's constructions, or m = 1, give order m; None without any.

    Raises: ModelError: n is below 1.
    """
    if n < 1:
        raise ModelError(f"a rotation needs a width of 1 or more, not {n}")
    m = n // (n & -n)  # the odd part
    while m <= n:
        if m == 1 or _is_paley(m):
            return m
        m *= 2
    return None


def hadamard(n: int) -> Tensor | None:
    """(n, n) int8 of 1 and -1 with H H^T = n I, as ``Rotation`` uses it before signs; None where it uses none."""
    m = paley_part(n)
    if m is None:
        return None
    matrix = torch.ones(1, 1, dtype=torch.int8) if m == 1 else _paley(m)
    return torch.kron(_sylvester(n // m).to(torch.int8), matrix)


@dataclass(frozen=True, eq=False)
class Rotation:
    """An orthogonal (n, n) matrix R = D (S x F): random signs D, Sylvester's S scaled to length 1, F the rest.

    ``factor_MM`` is Paley's matrix over sqrt(m), or a random orthogonal one; (1, 1) where n is a power of two.
    """

    width: int
    signs_N: Tensor = field(repr=False)
    factor_MM: Tensor = field(repr=False)

    @staticmethod
    def random(width: int, generator: torch.Generator) -> Rotation:
        """The rotation of this width whose signs (and random part) a generator draws.

        Raises: ModelError: a width below 1.
        """
        m = paley_part(width)
        signs = torch.randint(2, (width,), generator=generator).double() * 2 - 1
        if m is None:
            return Rotation(width, signs, _random_orthogonal(width // (width & -width), generator))
        factor = torch.ones(1, 1) if m == 1 else _paley(m)
        return Rotation(width, signs, factor.double() / m**0.5)

    def turned(self, x: Tensor) -> Tensor:
        """x R in float64 for every run of ``width`` elements along the last dimension, which it must divide."""
        if x.shape[-1] % self.width:
            raise ModelError(f"{x.shape[-1]} channels do not divide into runs of {self.width}")
        m = self.factor_MM.shape[0]
        count = self.width // m
        y = x.double().reshape(-1, self.width) * self.signs_N
        if m > 1:
            y = (y.reshape(-1, m) @ self.factor_MM).reshape(-1, self.width)
        step = m
        while step < self.width:  # a part of Sylvester's matrix at a time: it is a product of smaller ones
            part = _sylvester(min(PART, self.width // step))
            y = y.reshape(-1, len(part)) @ part if step == 1 else part @ y.reshape(-1, len(part), step)
            step *= len(part)
        return y.reshape(x.shape) / count**0.5


def _sylvester(n: int) -> Tensor:
    """(n, n) float64 of 1 and -1, symmetric; n is a power of two."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    doubled = torch.tensor([[1, 1], [1, -1]], dtype=torch.float64)
    while len(matrix) < n:
        matrix = torch.kron(doubled, matrix)
    return matrix


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % divisor for divisor in range(2, int(n**0.5) + 1))


def _is_paley(m: int) -> bool:
    return (m % 4 == 0 and _is_prime(m - 1)) or (m % 4 == 0 and m // 2 % 4 == 2 and _is_prime(m // 2 - 1))


def _paley(m: int) -> Tensor:
    """(m, m) int8, Paley's first construction where m - 1 is a prime, else his second."""
    if _is_prime(m - 1):
        core = torch.zeros(m, m, dtype=torch.int8)
        core[0, 1:], core[1:, 0], core[1:, 1:] = 1, -1, _residues(m - 1)
        return core + torch.eye(m, dtype=torch.int8)
    half = m // 2
    core = torch.zeros(half, half, dtype=torch.int8)
    core[0, 1:], core[1:, 0], core[1:, 1:] = 1, 1, _residues(half - 1)
    one = torch.eye(half, dtype=torch.int8)
    beside = torch.tensor([[1, 1], [1, -1]], dtype=torch.int8)
    diagonal = torch.tensor([[1, -1], [-1, -1]], dtype=torch.int8)
    return torch.kron(core, beside) + torch.kron(one, diagonal)


def _residues(q: int) -> Tensor:
    """(q, q): 1 where i - j is a square modulo the prime q, -1 where it is none, 0 on the diagonal."""
    character = torch.full((q,), -1, dtype=torch.int8)
    character[[k * k % q for k in range(1, q)]] = 1
    character[0] = 0
    index = torch.arange(q)
    return character[(index[:, None] - index) % q]


def _random_orthogonal(n: int, generator: torch.Generator) -> Tensor:
    """(n, n) float64, uniform over all up to signs: one reflection per dimension.

    Sums run along rows only, so that the number of threads cannot change a bit.
    """
    matrix = torch.eye(n, dtype=torch.float64)
    for k in range(n - 1):
        v = torch.randn(n - k, generator=generator, dtype=torch.float64)
        v[0] += v.norm() if v[0] >= 0 else -v.norm()
        part = matrix[:, k:]
        matrix[:, k:] = part - (part * v).sum(1, keepdim=True) * (2 / (v * v).sum()) * v
    return matrix
