// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";

import {OrderState} from "../Types.sol";
import {Deposits} from "./Deposits.sol";
import {EscrowGovernance} from "./EscrowGovernance.sol";
import {EscrowState} from "./EscrowState.sol";
import {Fees} from "./Fees.sol";
import {IEscrow} from "./IEscrow.sol";
import {AccountWord, OrderId, OrderWord} from "./Resources.sol";
import {SpendingRights} from "./SpendingRights.sol";

/// @title Escrow
/// @notice Holds all money of the market. Immutable, and so is the order book it obeys: nothing upgradeable can reach a lock
/// or a credit. Money leaves by pull only: closing a lease never depends on a transfer.
/// @dev Per token, the balance is at least the sum of all unlocked amounts, of all locks less what was settled from them, and
/// of all credits. This part moves what orders and leases lock; accounts, rights, deposits and governance are the parts it is
/// made of.
contract Escrow is SpendingRights, Deposits, EscrowGovernance {
    using AccountWord for uint256;
    using OrderWord for uint256;

    constructor(address authority, address orderBook_, address foundation_, address permit2_)
        ERC721("Spheron Account", "SPHACC")
        AccessManaged(authority)
    {
        (orderBook, permit2) = (orderBook_, permit2_);
        _setFoundation(foundation_);
    }

    /// @inheritdoc IEscrow
    function open(address owner) external override returns (uint32 account) {
        if (accountCount == type(uint32).max) revert AccountsExhausted(accountCount);
        account = ++accountCount;
        _mint(owner, account);
        emit AccountOpened(account, owner);
    }

    // ------------------------------------------------------------------ locks

    /// @inheritdoc IEscrow
    function lockOrder(uint32 account, uint8 token, address caller, uint256 rate, uint256 duration)
        external
        override
        onlyOrderBook
        returns (uint256 nonce, uint256 schedule, uint256 bracket)
    {
        uint256 listed = _enabled(token);
        uint256 amount = Fees.orderLock(rate, duration, listed);
        _authorise(account, token, caller, amount);
        uint256 word = _lockUnderNonce(account, token, amount);
        return (word.nonce(), _currentSchedule(listed), word.bracket());
    }

    /// @inheritdoc IEscrow
    function authoriseUpdate(uint32 account, uint8 token, address caller, uint256 rate, uint256 duration)
        external
        override
        onlyOrderBook
        returns (uint256 bracket)
    {
        _authorise(account, token, caller, Fees.leaseLock(rate, duration, _tokens[token]));
        return _accounts[_accountKey(account, token)].bracket();
    }

    /// @inheritdoc IEscrow
    function lockUpdate(uint32 account, uint8 token, uint256 rate, uint256 duration)
        external
        override
        onlyOrderBook
        returns (uint256 nonce, uint256 schedule)
    {
        uint256 listed = _tokens[token];
        uint256 word = _lockUnderNonce(account, token, Fees.leaseLock(rate, duration, listed));
        return (word.nonce(), _currentSchedule(listed));
    }

    /// @inheritdoc IEscrow
    function extendLease(uint64 orderId, uint256 orderWord, uint256 duration, address caller)
        external
        override
        onlyOrderBook
        returns (uint256 locked)
    {
        (uint32 account, uint8 token) = (OrderId.account(orderId), OrderId.token(orderId));
        uint256 packed = _pairOf(_tokens[token], orderWord.feeSchedule());
        locked = Fees.leaseLock(orderWord.rate(), duration, packed)
            - Fees.leaseLock(orderWord.rate(), orderWord.duration(), packed);
        _authorise(account, token, caller, locked);
        uint256 key = _accountKey(account, token);
        _accounts[key] = _locking(_accounts[key], account, token, locked);
    }

    /// @inheritdoc IEscrow
    function releaseOrder(uint64 orderId, uint256 orderWord) external override onlyOrderBook {
        uint8 token = OrderId.token(orderId);
        uint256 packed = _pairOf(_tokens[token], orderWord.feeSchedule());
        uint256 amount = Fees.orderLock(orderWord.rate(), orderWord.duration(), packed);
        _unlock(OrderId.account(orderId), token, amount, amount);
    }

    /// @inheritdoc IEscrow
    function openLeases(uint256[] calldata changes, address responder) external override onlyOrderBook {
        // One credit for as long as the token stays the same.
        uint256 token = type(uint256).max;
        uint256 listed = 0;
        uint256 credited = 0;
        for (uint256 index = 0; index < changes.length; ++index) {
            uint256 change = changes[index];
            // Account and token stand there as the key of their word.
            uint256 key = change >> 206;
            if (uint8(key) != token) {
                _credit(responder, uint8(token), credited);
                token = uint8(key);
                (listed, credited) = (_tokens[token], 0);
            }
            uint256 packed = _pairOf(listed, (change >> 197) & 511);
            (uint256 released, uint256 matchFee) = _releasedByMatch(change, packed);
            credited += matchFee;
            _accounts[key] = _accounts[key] - (released << 112) + (released - matchFee);
        }
        _credit(responder, uint8(token), credited);
    }

    // ----------------------------------------------------------------- leases

    /// @inheritdoc IEscrow
    function settleLease(uint64 orderId, uint256 orderWord, uint256 until, address gateway)
        external
        override
        onlyOrderBook
        returns (uint256 amount, uint256 gatewayAmount)
    {
        return _settle(orderId, orderWord, until, _tokens[OrderId.token(orderId)], gateway);
    }

    /// @inheritdoc IEscrow
    function settleAndCredit(uint64 orderId, uint256 orderWord, uint256 until, address payee, address gateway)
        external
        override
        onlyOrderBook
        returns (uint256 amount, uint256 gatewayAmount)
    {
        uint8 token = OrderId.token(orderId);
        (amount, gatewayAmount) = _settle(orderId, orderWord, until, _tokens[token], gateway);
        _credit(payee, token, amount);
    }

    /// @inheritdoc IEscrow
    function settleAndPay(
        uint64 orderId,
        uint256 orderWord,
        uint256 until,
        uint256 carried,
        address creditor,
        address gateway,
        address to
    ) external override onlyOrderBook returns (uint256 amount, uint256 gatewayAmount, uint256 paid) {
        uint8 token = OrderId.token(orderId);
        uint256 listed = _tokens[token];
        (amount, gatewayAmount) = _settle(orderId, orderWord, until, listed, gateway);
        // Both are parts of amounts that accounts hold, which have 112 bits.
        unchecked {
            paid = carried + amount;
        }
        if (creditor != address(0)) paid += _takeCredit(creditor, token, to);
        if (paid != 0) _send(token, listed, to, paid);
    }

    /// @inheritdoc IEscrow
    function closeLease(uint64 orderId, uint256 orderWord, uint256 billed, bool held, address payee, address gateway)
        external
        override
        onlyOrderBook
        returns (uint256 amount, uint256 gatewayAmount)
    {
        uint8 token = OrderId.token(orderId);
        uint256 packed = _scheduleOf(_tokens[token], orderWord.feeSchedule());
        uint256 gross = Fees.gross(orderWord.rate(), billed);
        uint256 spent = gross + Fees.userFee(gross, packed);
        uint256 locked = Fees.leaseLock(orderWord.rate(), orderWord.duration(), packed);
        if (held) {
            _unlock(OrderId.account(orderId), token, locked - spent, locked - spent);
            return (0, 0);
        }
        (amount, gatewayAmount) = _due(orderWord, gross, packed, gateway != address(0));
        _credit(payee, token, amount);
        _credit(gateway, token, gatewayAmount);
        _credit(foundation, token, Fees.foundationPart(gross, packed));
        _unlock(OrderId.account(orderId), token, locked, locked - spent);
    }

    /// @inheritdoc IEscrow
    function undoLease(uint64 orderId, uint256 orderWord) external override onlyOrderBook {
        uint8 token = OrderId.token(orderId);
        uint256 packed = _pairOf(_tokens[token], orderWord.feeSchedule());
        uint256 amount;
        if (orderWord.state() == OrderState.Leased) {
            amount = Fees.leaseLock(orderWord.rate(), orderWord.duration(), packed);
        } else {
            // The close returned the unused part, and kept locked what accrued.
            uint256 gross = Fees.gross(orderWord.rate(), orderWord.duration());
            amount = gross + Fees.userFee(gross, packed);
        }
        _unlock(OrderId.account(orderId), token, amount, amount);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc IEscrow
    function balances(uint32 account, uint8 token)
        external
        view
        override
        returns (uint256 unlocked, uint256 locked, uint32 nonce)
    {
        uint256 word = _accounts[_accountKey(account, token)];
        return (word.unlocked(), word.locked(), uint32(word.nonce()));
    }

    /// @inheritdoc IEscrow
    function bracketOf(uint32 account, uint8 token) external view override returns (uint8) {
        return uint8(_accounts[_accountKey(account, token)].bracket());
    }

    /// @inheritdoc IEscrow
    function creditOf(address payee, uint8 token) external view override returns (uint256) {
        return _credits[_creditKey(payee, token)];
    }

    /// @inheritdoc IEscrow
    function netOf(uint64 orderId, uint256 orderWord, uint256 until, bool shared)
        external
        view
        override
        returns (uint256 amount, uint256 gatewayAmount)
    {
        uint256 packed = _scheduleOf(_tokens[OrderId.token(orderId)], orderWord.feeSchedule());
        return _due(orderWord, Fees.gross(orderWord.rate(), until), packed, shared);
    }

    /// @inheritdoc IEscrow
    function feesOf(uint64 orderId, uint256 orderWord, uint256 billed) external view override returns (uint256) {
        uint256 packed = _scheduleOf(_tokens[OrderId.token(orderId)], orderWord.feeSchedule());
        return Fees.foundationPart(Fees.gross(orderWord.rate(), billed), packed);
    }

    // --------------------------------------------------------- private: locks

    /// @dev Word of a token that takes new orders.
    function _enabled(uint8 token) private view returns (uint256 listed) {
        listed = _tokens[token];
        if (listed & ENABLED == 0) revert TokenNotEnabled(token);
    }

    /// @dev What new orders freeze. The lowest bit is the class, which only a match can tell.
    function _currentSchedule(uint256 listed) private pure returns (uint256) {
        return ((listed >> Fees.PACKED_BITS) & 255) << 1;
    }

    /// @dev Locks what a new order or lease needs, under the account's next nonce.
    function _lockUnderNonce(uint32 account, uint8 token, uint256 amount) private returns (uint256 word) {
        uint256 key = _accountKey(account, token);
        word = _accounts[key];
        if (word.nonce() == OrderId.MAXIMUM_NONCE) revert NoncesExhausted(account, token);
        // The nonce goes up by one and has room.
        unchecked {
            word = _locking(word, account, token, amount) + (1 << 224);
        }
        _accounts[key] = word;
    }

    function _locking(uint256 word, uint32 account, uint8 token, uint256 amount) private pure returns (uint256) {
        if (amount > word.unlocked()) revert InsufficientBalance(account, token, word.unlocked(), amount);
        // The amount moves from unlocked to locked, whose sum has 112 bits.
        unchecked {
            return word - amount + (amount << 112);
        }
    }

    /// @dev Takes `released` out of an account's lock and returns `refunded` of it; the rest was credited to others.
    function _unlock(uint32 account, uint8 token, uint256 released, uint256 refunded) private {
        uint256 key = _accountKey(account, token);
        _accounts[key] = _accounts[key] - (released << 112) + refunded;
    }

    /// @dev What a match takes out of an order's lock, and what of that is the responder's: all and nothing if it expired.
    function _releasedByMatch(uint256 change, uint256 packed)
        private
        pure
        returns (uint256 released, uint256 matchFee)
    {
        uint256 duration = (change >> 168) & OrderWord.MAXIMUM_DURATION;
        uint256 fee = Fees.matchFee(packed);
        uint256 rate = change & OrderWord.MAXIMUM_RATE;
        // Amounts have at most 98 bits, and a lease locks no more than its order did: the taken rate is not above the maximum.
        unchecked {
            released = Fees.leaseLock((change >> 84) & OrderWord.MAXIMUM_RATE, duration, packed) + fee;
            if (rate == 0) return (released, 0);
            return (released - Fees.leaseLock(rate, duration, packed), fee);
        }
    }

    // -------------------------------------------------------- private: leases

    /// @dev What a lease pays its supplier, and its gateway if it is `shared`, when its streamed amount reaches `gross`. The
    /// gateway's part is a function of the cumulative net amount, so that settling often gives nobody more.
    function _due(uint256 orderWord, uint256 gross, uint256 packed, bool shared)
        private
        pure
        returns (uint256 amount, uint256 gatewayAmount)
    {
        uint256 net = Fees.net(gross, packed);
        uint256 paid = Fees.net(Fees.gross(orderWord.rate(), orderWord.settledFor()), packed);
        amount = net - paid;
        // A part of the whole, and neither falls when the net amount grows.
        unchecked {
            if (shared) gatewayAmount = Fees.gatewayPart(net, packed) - Fees.gatewayPart(paid, packed);
            amount -= gatewayAmount;
        }
    }

    function _settle(uint64 orderId, uint256 orderWord, uint256 until, uint256 listed, address gateway)
        private
        returns (uint256 amount, uint256 gatewayAmount)
    {
        if (until == orderWord.settledFor()) return (0, 0);
        uint256 packed = _scheduleOf(listed, orderWord.feeSchedule());
        uint256 gross = Fees.gross(orderWord.rate(), until);
        (amount, gatewayAmount) = _due(orderWord, gross, packed, gateway != address(0));
        if (gatewayAmount != 0) _credit(gateway, OrderId.token(orderId), gatewayAmount);
        if (orderWord.state() == OrderState.Leased) return (amount, gatewayAmount);
        // Closed inside the payout hold: the lock is down to what accrued, and all of it is due now.
        uint8 token = OrderId.token(orderId);
        _credit(foundation, token, Fees.foundationPart(gross, packed));
        _unlock(OrderId.account(orderId), token, gross + Fees.userFee(gross, packed), 0);
    }
}
