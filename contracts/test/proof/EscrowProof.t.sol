// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {Fees} from "../../src/market/Fees.sol";
import {OrderWord} from "../../src/market/Resources.sol";
import {OrderState} from "../../src/Types.sol";
import {Test} from "../Test.sol";

/// @dev The escrow itself, with a door for the words that a proof starts from.
contract OpenEscrow is Escrow {
    constructor(address orderBook_, address foundation_) Escrow(address(1), orderBook_, foundation_, address(2)) {}

    function setAccount(uint32 account, uint8 token, uint256 word) external {
        setAccount(_accountKey(account, token), word);
    }

    function setAccount(uint256 accountAndToken, uint256 word) public {
        _accounts[accountAndToken] = word;
    }

    function setToken(uint8 token, uint256 word) external {
        _tokens[token] = word;
    }

    function setEpoch(uint32 account, uint256 epoch) external {
        _epochs[account] = epoch;
    }

    function setRight(uint256 holder, uint256 right) external {
        _spendingRights[holder] = right;
    }

    function give(address owner, uint32 account) external {
        _mint(owner, account);
    }

    /// @dev In the code that locks it: compiled a second time it could multiply the other way round, which the solver takes for
    /// another number.
    function orderLock(uint256 rate, uint256 duration, uint256 packed) external pure returns (uint256) {
        return Fees.orderLock(rate, duration, packed);
    }

    function rightOf(uint256 holder) external view returns (uint256) {
        return _spendingRights[holder];
    }

    function accountWord(uint32 account, uint8 token) external view returns (uint256) {
        return accountWord(_accountKey(account, token));
    }

    function accountWord(uint256 accountAndToken) public view returns (uint256) {
        return _accounts[accountAndToken];
    }
}

/// @notice Proofs by halmos of what the escrow does with one lease's money, on its own code and for every value: rates of 84 bits,
/// times of 29, amounts of 98 (so many a rate and a time come to), accounts of 112, all schedules within the caps.
contract EscrowProof is Test {
    using OrderWord for uint256;

    uint64 private constant ORDER = (1 << 32) | 1;
    uint256 private constant ENABLED = 1 << 94;
    address private constant FOUNDATION = address(0x30);

    OpenEscrow private _escrow;

    struct Ratios {
        uint16 commission;
        uint16 providerFee;
        uint16 userFee;
        uint16 gatewayShare;
    }

    function setUp() public {
        _escrow = new OpenEscrow(address(this), FOUNDATION);
        _escrow.open(address(this));
    }

    /// @notice E5: what two settlements pay is what one pays, to the supplier and to its gateway. Of whatever the first one paid.
    function check_twoStepsPayAsOne(uint96 rate, uint32 first, uint32 second, Ratios calldata ratios) external {
        vm.assume(rate <= OrderWord.MAXIMUM_RATE && first <= second && second <= OrderWord.MAXIMUM_DURATION);
        _freeze(ratios);
        uint256 fresh = _lease(rate, OrderWord.MAXIMUM_DURATION, 0, OrderState.Leased);
        (uint256 whole, uint256 wholeGateway) = _escrow.netOf(ORDER, fresh, second, true);
        (uint256 early, uint256 earlyGateway) = _escrow.netOf(ORDER, fresh, first, true);
        (uint256 late, uint256 lateGateway) = _escrow.netOf(ORDER, fresh.withSettledFor(first), second, true);
        unchecked {
            assert(early + late == whole);
            assert(earlyGateway + lateGateway == wholeGateway);
        }
    }

    /// @notice An order that ends without a lease gives back what it locked; only the nonce has moved.
    function check_releaseReturnsTheLock(
        uint96 rate,
        uint32 duration,
        Ratios calldata ratios,
        uint112 unlocked,
        uint32 fee
    ) external {
        vm.assume(rate <= OrderWord.MAXIMUM_RATE && duration <= OrderWord.MAXIMUM_DURATION && fee < 1 << 20);
        _freeze(ratios, fee);
        _escrow.setAccount(1, 0, unlocked);
        _escrow.lockOrder(1, 0, address(this), rate, duration);
        _escrow.releaseOrder(ORDER, OrderWord.open(rate, duration, 0, 2));
        assert(_escrow.accountWord(1, 0) == uint256(unlocked) | (1 << 224));
    }

    // ---------------------------------------------------------------- private

    function _freeze(Ratios calldata ratios) private returns (uint256 packed) {
        return _freeze(ratios, 0);
    }

    /// @dev Token 0 with pair 1 of schedules, whose even id is 2. As {Fees-pack} lays it out.
    function _freeze(Ratios calldata ratios, uint256 matchFee) private returns (uint256 packed) {
        vm.assume(uint256(ratios.commission) + ratios.providerFee + ratios.userFee <= Fees.MAXIMUM);
        vm.assume(ratios.gatewayShare <= Fees.MAXIMUM_GATEWAY_SHARE);
        packed = uint256(ratios.commission) | (uint256(ratios.commission) << 12) | (uint256(ratios.providerFee) << 24)
            | (uint256(ratios.userFee) << 36) | (uint256(ratios.gatewayShare) << 48) | (matchFee << 61);
        _escrow.setToken(0, packed | (1 << Fees.PACKED_BITS) | ENABLED | (1 << 96));
    }

    function _lease(uint256 rate, uint256 duration, uint256 settledFor, OrderState state)
        private
        pure
        returns (uint256)
    {
        return OrderWord.open(rate, duration, 0, 2).withSettledFor(settledFor).withState(state);
    }
}
