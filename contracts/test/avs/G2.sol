// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Multiples of BN254's second generator, so that tests make operators' keys from secrets. Affine, slow, obvious: the
/// pairing precompile tells whether it is right.
library G2 {
    /// @dev real + imaginary i, with i^2 = -1.
    struct Fp2 {
        uint256 real;
        uint256 imaginary;
    }

    struct Point {
        Fp2 x;
        Fp2 y;
        bool infinity;
    }

    uint256 private constant P = 0x30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47;

    function generator() internal pure returns (Point memory) {
        return Point(
            Fp2(
                0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed,
                0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2
            ),
            Fp2(
                0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa,
                0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b
            ),
            false
        );
    }

    /// @return x and y as the precompiles take them: imaginary part first.
    function multiply(uint256 scalar) internal view returns (uint256[2] memory x, uint256[2] memory y) {
        Point memory sum;
        sum.infinity = true;
        Point memory power = generator();
        for (; scalar != 0; scalar >>= 1) {
            if (scalar & 1 == 1) sum = add(sum, power);
            power = add(power, power);
        }
        return ([sum.x.imaginary, sum.x.real], [sum.y.imaginary, sum.y.real]);
    }

    /// @dev a - b, as the precompiles take them: imaginary part first.
    function subtract(uint256[2] memory aX, uint256[2] memory aY, uint256[2] memory bX, uint256[2] memory bY)
        internal
        view
        returns (uint256[2] memory x, uint256[2] memory y)
    {
        Point memory negated = Point(Fp2(bX[1], bX[0]), Fp2((P - bY[1]) % P, (P - bY[0]) % P), false);
        Point memory difference = add(Point(Fp2(aX[1], aX[0]), Fp2(aY[1], aY[0]), false), negated);
        return ([difference.x.imaginary, difference.x.real], [difference.y.imaginary, difference.y.real]);
    }

    function add(Point memory a, Point memory b) internal view returns (Point memory sum) {
        if (a.infinity) return b;
        if (b.infinity) return a;
        Fp2 memory slope;
        if (_equal(a.x, b.x)) {
            if (!_equal(a.y, b.y)) {
                sum.infinity = true;
                return sum;
            }
            Fp2 memory square = _multiply(a.x, a.x);
            slope = _multiply(_add(_add(square, square), square), _invert(_add(a.y, a.y)));
        } else {
            slope = _multiply(_subtract(b.y, a.y), _invert(_subtract(b.x, a.x)));
        }
        sum.x = _subtract(_subtract(_multiply(slope, slope), a.x), b.x);
        sum.y = _subtract(_multiply(slope, _subtract(a.x, sum.x)), a.y);
    }

    function _equal(Fp2 memory a, Fp2 memory b) private pure returns (bool) {
        return a.real == b.real && a.imaginary == b.imaginary;
    }

    function _add(Fp2 memory a, Fp2 memory b) private pure returns (Fp2 memory) {
        return Fp2(addmod(a.real, b.real, P), addmod(a.imaginary, b.imaginary, P));
    }

    function _subtract(Fp2 memory a, Fp2 memory b) private pure returns (Fp2 memory) {
        return Fp2(addmod(a.real, P - b.real, P), addmod(a.imaginary, P - b.imaginary, P));
    }

    function _multiply(Fp2 memory a, Fp2 memory b) private pure returns (Fp2 memory) {
        return Fp2(
            addmod(mulmod(a.real, b.real, P), P - mulmod(a.imaginary, b.imaginary, P), P),
            addmod(mulmod(a.real, b.imaginary, P), mulmod(a.imaginary, b.real, P), P)
        );
    }

    /// @dev 1 / (r + i) = (r - i) / (r^2 + i^2); the norm is inverted as its power P - 2.
    function _invert(Fp2 memory a) private view returns (Fp2 memory) {
        uint256 norm = addmod(mulmod(a.real, a.real, P), mulmod(a.imaginary, a.imaginary, P), P);
        (bool success, bytes memory result) =
            address(5).staticcall(abi.encode(uint256(32), uint256(32), uint256(32), norm, P - 2, P));
        require(success, "modexp failed");
        uint256 inverse = abi.decode(result, (uint256));
        return Fp2(mulmod(a.real, inverse, P), mulmod((P - a.imaginary) % P, inverse, P));
    }
}
