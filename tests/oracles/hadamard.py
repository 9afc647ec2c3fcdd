"""Oracle of Hadamard matrices, entry by entry from their definitions (Sylvester 1867, Paley 1933)."""

from __future__ import annotations

import numpy as np


def prime(n: int) -> bool:
    return n >= 2 and not any(n % d == 0 for d in range(2, n))


def character(a: int, q: int) -> int:
    """1 for a square modulo the odd prime q, -1 for another number, 0 for a multiple of q: Euler's criterion."""
    power = pow(a % q, (q - 1) // 2, q)
    return -1 if power == q - 1 else power


def sylvester(n: int) -> np.ndarray:
    """Entry (i, j) is -1 to the number of ones that i and j have in common in binary."""
    return np.array([[(-1) ** (i & j).bit_count() for j in range(n)] for i in range(n)])


def paley_one(q: int) -> np.ndarray:
    """I + S, where S borders the differences' characters with 1 above and -1 to the left."""
    n = q + 1
    matrix = np.eye(n, dtype=int)
    for i in range(n):
        for j in range(n):
            if i == 0 and j > 0:
                matrix[i, j] = 1
            elif j == 0 and i > 0:
                matrix[i, j] = -1
            elif i and j and i != j:
                matrix[i, j] = character((i - 1) - (j - 1), q)
    return matrix


def paley_two(q: int) -> np.ndarray:
    """The symmetric border of 1: its zeros become [[1, -1], [-1, -1]], its signs that times [[1, 1], [1, -1]]."""
    n = q + 1
    matrix = np.zeros((2 * n, 2 * n), dtype=int)
    for i in range(n):
        for j in range(n):
            entry = 0 if i == j else 1 if i == 0 or j == 0 else character(i - j, q)
            at = [[1, -1], [-1, -1]] if entry == 0 else [[entry, entry], [entry, -entry]]
            matrix[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = at
    return matrix


def known(n: int) -> np.ndarray | None:
    """The matrix of order n from the largest power of two that leaves an order Paley gives; None without any."""
    for power in sorted((2**k for k in range(n.bit_length()) if n % 2**k == 0), reverse=True):
        m = n // power
        if m == 1:
            return sylvester(n)
        if prime(m - 1) and (m - 1) % 4 == 3:
            return np.kron(sylvester(power), paley_one(m - 1))
        if m % 2 == 0 and prime(m // 2 - 1) and (m // 2 - 1) % 4 == 1:
            return np.kron(sylvester(power), paley_two(m // 2 - 1))
    return None
