// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Escrow} from "../../src/market/Escrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {FeeSchedule, OrderState} from "../../src/Types.sol";
import {Test} from "../Test.sol";

interface IBalance {
    function balanceOf(address holder) external view returns (uint256);
}

/// @notice Books kept next to the contracts' own, in double entry: money moves from one purse, order or payee to another, and
/// nothing appears or is lost. Unlike the contracts, which store no amount that was paid and compute everything from the
/// times, the ledger keeps what every order took in and gave out, and takes what is paid out of a lock at once. What the
/// contracts hold is compared with it after every step, so that a lease that forgets or invents a unit shows in that step.
abstract contract Ledger is Test {
    uint256 internal constant RATE_PERIOD = 36_000;
    uint256 internal constant WHOLE = 10_000;

    /// @dev One order from its creation on, and all the money it ever moved.
    struct Entry {
        uint64 orderId;
        uint32 account;
        uint8 token;
        uint16 schedule;
        OrderState state;
        /// Closed inside the payout hold, and not settled since.
        bool held;
        bool requeued;
        uint96 maximumRate;
        uint96 rate;
        /// Seconds bought, extensions included; billed seconds after the close.
        uint32 duration;
        uint32 start;
        uint32 paidTo;
        uint32 supplier;
        uint32 closeBlock;
        uint32 bids;
        uint256 resources;
        bytes32 restHash;
        uint256 lockedIn;
        uint256 supplierGot;
        uint256 gatewayGot;
        uint256 foundationGot;
        uint256 responderGot;
        uint256 refunded;
        uint256 word;
        bytes32 termsHash;
    }

    struct Purse {
        uint256 deposited;
        uint256 withdrawn;
        uint256 unlocked;
        /// What is locked and not yet paid to anybody.
        uint256 locked;
        uint256 nonce;
    }

    Escrow public immutable escrow;
    IOrderBook public immutable book;

    Entry[] internal _entries;
    mapping(uint64 orderId => uint256 indexPlusOne) internal _entryOf;
    uint32[] internal _accounts;
    uint8[] internal _tokens;
    address[] internal _payees;
    mapping(address payee => bool) internal _isPayee;
    mapping(uint256 accountAndToken => Purse) internal _purses;
    mapping(uint256 payeeAndToken => uint256) internal _credits;
    mapping(uint8 token => uint256) internal _owed;
    mapping(uint8 token => uint256) internal _donated;
    mapping(uint8 token => address) internal _tokenAddress;
    /// @dev As they were added; the contracts' are never read back.
    FeeSchedule[] internal _schedules;

    /// @dev The first broken promise of each invariant, in words.
    mapping(uint256 invariantNumber => string) internal _broken;

    constructor(Escrow escrow_, IOrderBook book_) {
        (escrow, book) = (escrow_, book_);
    }

    // ---------------------------------------------------------------- movements

    function _purseOf(Entry storage entry) internal view returns (Purse storage) {
        return _purses[_accountKey(entry.account, entry.token)];
    }

    function _lock(Entry storage entry, uint256 amount) internal {
        Purse storage purse = _purseOf(entry);
        purse.unlocked -= amount;
        purse.locked += amount;
        entry.lockedIn += amount;
    }

    function _refund(Entry storage entry, uint256 amount) internal {
        Purse storage purse = _purseOf(entry);
        purse.locked -= amount;
        purse.unlocked += amount;
        entry.refunded += amount;
    }

    function _credit(Entry storage entry, address payee, uint256 amount) internal {
        _purseOf(entry).locked -= amount;
        if (amount != 0) _credits[_creditKey(payee, entry.token)] += amount;
        _addPayee(payee);
    }

    function _addPayee(address payee) internal {
        if (_isPayee[payee]) return;
        _isPayee[payee] = true;
        _payees.push(payee);
    }

    /// @dev Money that leaves the escrow.
    function _payOut(address payee, uint8 token, uint256 amount) internal {
        _credits[_creditKey(payee, token)] -= amount;
        _owed[token] -= amount;
    }

    function _left(Entry storage entry) internal view returns (uint256) {
        return entry.lockedIn - entry.supplierGot - entry.gatewayGot - entry.foundationGot - entry.responderGot
            - entry.refunded;
    }

    /// @dev Credits supplier and gateway what is theirs after `until` seconds; `gateway` is zero if there is none.
    function _accrue(Entry storage entry, uint256 until, address supplier, address gateway)
        internal
        returns (uint256 toSupplier, uint256 toGateway)
    {
        (uint256 supplierTotal, uint256 gatewayTotal) = _shares(entry, until, gateway != address(0));
        (toSupplier, toGateway) = (supplierTotal - entry.supplierGot, gatewayTotal - entry.gatewayGot);
        _credit(entry, supplier, toSupplier);
        if (gateway != address(0)) _credit(entry, gateway, toGateway);
        (entry.supplierGot, entry.gatewayGot, entry.paidTo) = (supplierTotal, gatewayTotal, uint32(until));
    }

    /// @dev The end of a lease whose money is all paid out: the foundation's part, and the rest to the user.
    function _finish(Entry storage entry, address foundation) internal {
        uint256 fees = _costOf(entry, entry.paidTo) - entry.supplierGot - entry.gatewayGot;
        _credit(entry, foundation, fees);
        entry.foundationGot += fees;
        entry.held = false;
        _refund(entry, _left(entry));
    }

    // ----------------------------------------------------------------- what is due

    function _streamed(uint256 rate, uint256 time) internal pure returns (uint256) {
        return rate * time / RATE_PERIOD;
    }

    /// @dev What the user pays for the first `time` seconds, both fees included.
    function _costOf(Entry storage entry, uint256 time) internal view returns (uint256) {
        uint256 streamed = _streamed(entry.rate, time);
        return streamed + streamed * _schedules[entry.schedule].userFee / WHOLE;
    }

    function _shares(Entry storage entry, uint256 time, bool shared)
        internal
        view
        returns (uint256 toSupplier, uint256 toGateway)
    {
        FeeSchedule storage schedule = _schedules[entry.schedule];
        uint256 streamed = _streamed(entry.rate, time);
        uint256 net = streamed - streamed * (uint256(schedule.commission) + schedule.providerFee) / WHOLE;
        if (shared) toGateway = net * schedule.gatewayShare / WHOLE;
        toSupplier = net - toGateway;
    }

    /// @dev Stream and user fee, each rounded up.
    function _worstCase(uint256 rate, uint256 duration, uint16 schedule) internal view returns (uint256) {
        uint256 stream = _upwards(rate * duration, RATE_PERIOD);
        return stream + _upwards(stream * _schedules[schedule].userFee, WHOLE);
    }

    function _upwards(uint256 value, uint256 divisor) private pure returns (uint256) {
        return value == 0 ? 0 : (value - 1) / divisor + 1;
    }

    // -------------------------------------------------------------------- promises

    function _break(uint256 number, string memory what) internal {
        if (bytes(_broken[number]).length == 0) _broken[number] = what;
    }

    function _require(bool kept, uint256 number, string memory what) internal {
        if (!kept) _break(number, what);
    }

    function _accountKey(uint32 account, uint8 token) internal pure returns (uint256) {
        return (uint256(account) << 8) | token;
    }

    function _creditKey(address payee, uint8 token) internal pure returns (uint256) {
        return (uint256(uint160(payee)) << 8) | token;
    }

    function _isClosed(OrderState state) internal pure returns (bool) {
        return state >= OrderState.ClosedByUser;
    }
}
