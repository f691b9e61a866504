"""BN254 (EIP-196, EIP-197): both groups, EigenLayer's hash to G1, BLS signatures. Affine and slow on purpose."""

P = 21888242871839275222246405745257275088696311157297823662689037894645226208583
R = 21888242871839275222246405745257275088548364400416034343698204186575808495617


class Fq:
    """Element of the base field."""

    __slots__ = ("v",)

    def __init__(self, v):
        self.v = v % P

    def __add__(self, o):
        return Fq(self.v + o.v)

    def __sub__(self, o):
        return Fq(self.v - o.v)

    def __mul__(self, o):
        return Fq(self.v * o.v)

    def __eq__(self, o):
        return self.v == o.v

    def times(self, k):
        return Fq(self.v * k)

    def inverse(self):
        return Fq(pow(self.v, -1, P))


class Fq2:
    """a + b i with i * i = -1."""

    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a % P, b % P

    def __add__(self, o):
        return Fq2(self.a + o.a, self.b + o.b)

    def __sub__(self, o):
        return Fq2(self.a - o.a, self.b - o.b)

    def __mul__(self, o):
        return Fq2(self.a * o.a - self.b * o.b, self.a * o.b + self.b * o.a)

    def __eq__(self, o):
        return (self.a, self.b) == (o.a, o.b)

    def times(self, k):
        return Fq2(self.a * k, self.b * k)

    def inverse(self):
        norm = pow(self.a * self.a + self.b * self.b, -1, P)
        return Fq2(self.a * norm, -self.b * norm)


def add(p, q):
    """Sum of two points; None is infinity."""
    if p is None or q is None:
        return q if p is None else p
    if p[0] == q[0]:
        if not p[1] == q[1]:
            return None
        slope = (p[0] * p[0]).times(3) * p[1].times(2).inverse()
    else:
        slope = (q[1] - p[1]) * (q[0] - p[0]).inverse()
    x = slope * slope - p[0] - q[0]
    return (x, slope * (p[0] - x) - p[1])


def multiply(point, scalar):
    result = None
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


G1 = (Fq(1), Fq(2))
G2 = (
    Fq2(
        10857046999023057135944570762232829481370756359578518086990519993285655852781,
        11559732032986387107991004021392285783925812861821192530917403151452391805634,
    ),
    Fq2(
        8495653923123431417604973247489272438418190587263600148770280649306958101930,
        4082367875863433681332203403145435568316851327593401208105741076214120093531,
    ),
)


def hash_to_g1(message):
    """`BN254.hashToG1` of the middleware: count x up until x^3 + 3 is a square."""
    x = int.from_bytes(message, "big") % P
    while True:
        beta = (x * x * x + 3) % P
        y = pow(beta, (P + 1) // 4, P)
        if y * y % P == beta:
            return (Fq(x), Fq(y))
        x = (x + 1) % P


def sign(secret, message):
    return multiply(hash_to_g1(message), secret)


def check():
    """Generators are on their curves and have the group's order; a known double (EIP-196 test vectors)."""
    assert G1[1] * G1[1] == G1[0] * G1[0] * G1[0] + Fq(3)
    assert G2[1] * G2[1] == G2[0] * G2[0] * G2[0] + Fq2(3, 0) * Fq2(9, 1).inverse()
    assert multiply(G1, R) is None and multiply(G2, R) is None
    double = multiply(G1, 2)
    assert double[0].v == 0x030644E72E131A029B85045B68181585D97816A916871CA8D3C208C16D87CFD3
    assert double[1].v == 0x15ED738C0E0A7C92E7845F96B2AE9C0A68A6A449E3538FC7FF3EBF7A5A18A2C4
