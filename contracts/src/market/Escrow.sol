// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {FeeSchedule, OrderState} from "../Types.sol";
import {Fees} from "./Fees.sol";
import {IEscrow} from "./IEscrow.sol";
import {IOrderBook} from "./IOrderBook.sol";
import {AccountWord, OrderId, OrderWord} from "./Resources.sol";

/// @title Escrow
/// @notice Holds all money of the market. Immutable, and so is the order book it obeys: nothing upgradeable can reach a lock
/// or a credit. Money leaves by pull only: closing a lease never depends on a transfer.
/// @dev Per token, the balance is at least the sum of all unlocked amounts, of all locks less what was settled from them, and
/// of all credits.
contract Escrow is IEscrow, ERC721, AccessManaged, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using AccountWord for uint256;
    using OrderWord for uint256;

    /// @dev Score cards and answers number tokens with 32 bits.
    uint8 private constant HIGHEST_TOKEN = 31;
    /// @dev Order words have nine bits for the schedule.
    uint16 private constant MAXIMUM_FEE_SCHEDULES = 511;
    uint256 private constant ENABLED = 1 << 95;

    /// @inheritdoc IEscrow
    address public immutable override orderBook;

    /// @inheritdoc IEscrow
    address public override foundation;
    /// @inheritdoc IEscrow
    uint32 public override accountCount;
    /// @inheritdoc IEscrow
    uint16 public override feeScheduleCount;

    /// @dev Token words: packed schedule 86 at 0 | id of the schedule 9 at 86 | enabled 1 at 95 | address 160 at 96. The schedule
    /// is there a second time because every order, settlement and close needs the token and it.
    mapping(uint256 id => uint256 word) private _tokens;
    /// @dev Packed schedules, see {Fees}.
    mapping(uint256 id => uint256 packed) private _feeSchedules;
    /// @dev Account-and-token words by `account << 8 | token`.
    mapping(uint256 accountAndToken => uint256 word) private _accounts;
    /// @dev Credits by `payee << 8 | token`.
    mapping(uint256 payeeAndToken => uint256 amount) private _credits;

    modifier onlyOrderBook() {
        if (msg.sender != orderBook) revert NotOrderBook(msg.sender);
        _;
    }

    constructor(address authority, address orderBook_, address foundation_)
        ERC721("Spheron Account", "SPHACC")
        AccessManaged(authority)
    {
        orderBook = orderBook_;
        _setFoundation(foundation_);
    }

    // --------------------------------------------------------------- accounts

    /// @inheritdoc IEscrow
    function open(address owner) external override returns (uint32 account) {
        if (accountCount == type(uint32).max) revert AccountsExhausted(accountCount);
        account = ++accountCount;
        _mint(owner, account);
        emit AccountOpened(account, owner);
    }

    /// @inheritdoc IEscrow
    function deposit(uint32 account, uint8 token, uint256 amount) external override nonReentrant {
        // Check
        if (amount == 0) revert ZeroAmount();
        if (_ownerOf(account) == address(0)) revert UnknownAccount(account);
        address tokenAddress = address(uint160(_tokens[token] >> 96));
        if (tokenAddress == address(0)) revert UnknownToken(token);

        // Interaction first: what counts is what arrives. The guard keeps the balance from moving in between.
        uint256 balanceBefore = IERC20(tokenAddress).balanceOf(address(this));
        IERC20(tokenAddress).safeTransferFrom(msg.sender, address(this), amount);
        uint256 balanceAfter = IERC20(tokenAddress).balanceOf(address(this));
        if (balanceAfter < balanceBefore || balanceAfter - balanceBefore != amount) {
            uint256 received = balanceAfter < balanceBefore ? 0 : balanceAfter - balanceBefore;
            revert TransferMismatch(tokenAddress, amount, received);
        }

        // Effect
        uint256 key = _accountKey(account, token);
        uint256 word = _accounts[key];
        // Unlocked and locked together stay below 112 bits, so that neither can overflow into the other.
        uint256 held = word.unlocked() + word.locked();
        if (amount > AccountWord.MAXIMUM_AMOUNT - held) revert BalanceTooLarge(account, token, held, amount);
        _accounts[key] = word + amount;
        emit Deposited(account, token, msg.sender, amount);
    }

    /// @inheritdoc IEscrow
    function withdraw(uint32 account, uint8 token, uint256 amount, address to) external override {
        // Check
        if (amount == 0) revert ZeroAmount();
        _checkAccountOwner(account, msg.sender);
        uint256 key = _accountKey(account, token);
        uint256 word = _accounts[key];
        if (amount > word.unlocked()) revert InsufficientBalance(account, token, word.unlocked(), amount);

        // Effect
        _accounts[key] = word - amount;
        emit Withdrawn(account, token, to, amount);

        // Interaction
        _send(token, _tokens[token], to, amount);
    }

    /// @inheritdoc IEscrow
    function withdrawCredit(uint8 token, address to) external override returns (uint256 amount) {
        amount = _takeCredit(msg.sender, token, to);
        if (amount == 0) revert NothingToWithdraw(msg.sender, token);
        _send(token, _tokens[token], to, amount);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IEscrow
    function addFeeSchedule(FeeSchedule calldata schedule) external override restricted returns (uint16 id) {
        uint256 total = uint256(schedule.commission) + schedule.userFee + schedule.providerFee;
        if (total > Fees.MAXIMUM) revert FeesTooHigh(total, Fees.MAXIMUM);
        if (feeScheduleCount == MAXIMUM_FEE_SCHEDULES) revert FeeSchedulesExhausted(feeScheduleCount);
        (uint256 packed, bool exact) = Fees.pack(schedule);
        if (!exact) revert MatchFeeTooPrecise(schedule.matchFee);
        id = ++feeScheduleCount;
        _feeSchedules[id] = packed;
        emit FeeScheduleAdded(id, schedule);
    }

    /// @inheritdoc IEscrow
    function setFoundation(address newFoundation) external override restricted {
        _setFoundation(newFoundation);
    }

    /// @inheritdoc IEscrow
    function setToken(uint8 token, address tokenAddress, bool enabled, uint16 schedule) external override {
        if (msg.sender != IOrderBook(orderBook).collaborator(IOrderBook.Collaborator.PaymentTokens)) {
            revert NotPaymentTokens(msg.sender);
        }
        if (token > HIGHEST_TOKEN) revert TokenIdOutOfRange(token, HIGHEST_TOKEN);
        if (schedule == 0 || schedule > feeScheduleCount) revert UnknownFeeSchedule(schedule);
        address current = address(uint160(_tokens[token] >> 96));
        if (tokenAddress == address(0) || (current != address(0) && current != tokenAddress)) {
            revert TokenAddressFixed(token, current, tokenAddress);
        }
        _tokens[token] = _feeSchedules[schedule] | (uint256(schedule) << Fees.PACKED_BITS) | (enabled ? ENABLED : 0)
            | (uint256(uint160(tokenAddress)) << 96);
        emit TokenSet(token, tokenAddress, enabled, schedule);
    }

    // ------------------------------------------------------------- order book

    /// @inheritdoc IEscrow
    function lockOrder(uint32 account, uint8 token, address owner, uint256 rate, uint256 duration)
        external
        override
        onlyOrderBook
        returns (uint256 nonce, uint256 schedule)
    {
        _checkAccountOwner(account, owner);
        uint256 listed = _tokens[token];
        if (listed & ENABLED == 0) revert TokenNotEnabled(token);
        schedule = (listed >> Fees.PACKED_BITS) & 511;
        uint256 amount = Fees.orderLock(rate, duration, listed);

        uint256 key = _accountKey(account, token);
        uint256 word = _accounts[key];
        if (amount > word.unlocked()) revert InsufficientBalance(account, token, word.unlocked(), amount);
        nonce = word.nonce() + 1;
        if (nonce > OrderId.MAXIMUM_NONCE) revert NoncesExhausted(account, token);
        // The amount moves from unlocked to locked, the nonce goes up: no field can overflow.
        unchecked {
            _accounts[key] = word - amount + (amount << 112) + (1 << 224);
        }
    }

    /// @inheritdoc IEscrow
    function releaseOrder(uint64 orderId, uint256 orderWord) external override onlyOrderBook {
        uint8 token = OrderId.token(orderId);
        uint256 packed = _packedSchedule(_tokens[token], orderWord.feeSchedule());
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
                _creditMatchFees(responder, token, credited);
                token = uint8(key);
                (listed, credited) = (_tokens[token], 0);
            }
            uint256 packed = _packedSchedule(listed, (change >> 197) & 511);
            (uint256 released, uint256 matchFee) = _releasedByMatch(change, packed);
            credited += matchFee;
            _accounts[key] = _accounts[key] - (released << 112) + (released - matchFee);
        }
        _creditMatchFees(responder, token, credited);
    }

    /// @inheritdoc IEscrow
    function settleLease(uint64 orderId, uint256 orderWord, uint256 until)
        external
        override
        onlyOrderBook
        returns (uint256 amount)
    {
        return _settle(orderId, orderWord, until, _tokens[OrderId.token(orderId)]);
    }

    /// @inheritdoc IEscrow
    function settleAndCredit(uint64 orderId, uint256 orderWord, uint256 until, address payee)
        external
        override
        onlyOrderBook
        returns (uint256 amount)
    {
        uint8 token = OrderId.token(orderId);
        amount = _settle(orderId, orderWord, until, _tokens[token]);
        if (amount != 0) _credits[_creditKey(payee, token)] += amount;
    }

    /// @inheritdoc IEscrow
    function settleAndPay(
        uint64 orderId,
        uint256 orderWord,
        uint256 until,
        uint256 carried,
        address creditor,
        address to
    ) external override onlyOrderBook returns (uint256 amount, uint256 paid) {
        uint8 token = OrderId.token(orderId);
        uint256 listed = _tokens[token];
        amount = _settle(orderId, orderWord, until, listed);
        paid = carried + amount;
        if (creditor != address(0)) paid += _takeCredit(creditor, token, to);
        if (paid != 0) _send(token, listed, to, paid);
    }

    /// @inheritdoc IEscrow
    function closeLease(uint64 orderId, uint256 orderWord, uint256 billed, bool held, address payee)
        external
        override
        onlyOrderBook
        returns (uint256 amount)
    {
        uint8 token = OrderId.token(orderId);
        uint256 packed = _packedSchedule(_tokens[token], orderWord.feeSchedule());
        uint256 gross = Fees.gross(orderWord.rate(), billed);
        uint256 spent = gross + Fees.userFee(gross, packed);
        uint256 locked = Fees.leaseLock(orderWord.rate(), orderWord.duration(), packed);
        if (held) {
            _unlock(OrderId.account(orderId), token, locked - spent, locked - spent);
            return 0;
        }
        amount = _due(orderWord, gross, packed);
        if (amount != 0) _credits[_creditKey(payee, token)] += amount;
        _creditFees(token, gross, packed);
        _unlock(OrderId.account(orderId), token, locked, locked - spent);
    }

    /// @inheritdoc IEscrow
    function undoLease(uint64 orderId, uint256 orderWord) external override onlyOrderBook {
        uint8 token = OrderId.token(orderId);
        uint256 packed = _packedSchedule(_tokens[token], orderWord.feeSchedule());
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
    function ownerOf(uint256 account) public view override(IEscrow, ERC721) returns (address) {
        return super.ownerOf(account);
    }

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
    function creditOf(address payee, uint8 token) external view override returns (uint256) {
        return _credits[_creditKey(payee, token)];
    }

    /// @inheritdoc IEscrow
    function feeSchedule(uint16 id) external view override returns (FeeSchedule memory) {
        return Fees.unpack(_knownSchedule(id));
    }

    /// @inheritdoc IEscrow
    function tokenOf(uint8 token) external view override returns (address tokenAddress, bool enabled, uint16 schedule) {
        uint256 listed = _tokens[token];
        schedule = uint16((listed >> Fees.PACKED_BITS) & 511);
        return (address(uint160(listed >> 96)), listed & ENABLED != 0, schedule);
    }

    /// @inheritdoc IEscrow
    function lockFor(uint96 rate, uint32 duration, uint16 schedule) external view override returns (uint256) {
        return Fees.orderLock(rate, duration, _knownSchedule(schedule));
    }

    /// @inheritdoc IEscrow
    function netOf(uint64 orderId, uint256 orderWord, uint256 until) external view override returns (uint256) {
        uint256 packed = _packedSchedule(_tokens[OrderId.token(orderId)], orderWord.feeSchedule());
        return _due(orderWord, Fees.gross(orderWord.rate(), until), packed);
    }

    // ---------------------------------------------------------------- private

    function _checkAccountOwner(uint32 account, address caller) private view {
        address owner = _ownerOf(account);
        if (owner != caller || caller == address(0)) revert NotAccountOwner(account, caller, owner);
    }

    /// @dev The schedule under an id. Nearly always the token still has the one that the order froze.
    function _packedSchedule(uint256 listed, uint256 id) private view returns (uint256) {
        return (listed >> Fees.PACKED_BITS) & 511 == id ? listed : _feeSchedules[id];
    }

    /// @dev What a lease pays its supplier when its streamed amount reaches `gross`.
    function _due(uint256 orderWord, uint256 gross, uint256 packed) private pure returns (uint256) {
        return Fees.net(gross, packed) - Fees.net(Fees.gross(orderWord.rate(), orderWord.settledFor()), packed);
    }

    function _settle(uint64 orderId, uint256 orderWord, uint256 until, uint256 listed)
        private
        returns (uint256 amount)
    {
        if (until == orderWord.settledFor()) return 0;
        uint256 packed = _packedSchedule(listed, orderWord.feeSchedule());
        uint256 gross = Fees.gross(orderWord.rate(), until);
        amount = _due(orderWord, gross, packed);
        if (orderWord.state() == OrderState.Leased) return amount;
        // Closed inside the payout hold: the lock is down to what accrued, and all of it is due now.
        _creditFees(OrderId.token(orderId), gross, packed);
        _unlock(OrderId.account(orderId), OrderId.token(orderId), gross + Fees.userFee(gross, packed), 0);
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

    function _creditMatchFees(address responder, uint256 token, uint256 amount) private {
        if (amount != 0) _credits[_creditKey(responder, uint8(token))] += amount;
    }

    /// @dev The user fee and what is not the supplier's. Only at the end of a lease, on cumulative amounts.
    function _creditFees(uint8 token, uint256 gross, uint256 packed) private {
        uint256 fees = gross - Fees.net(gross, packed) + Fees.userFee(gross, packed);
        if (fees != 0) _credits[_creditKey(foundation, token)] += fees;
    }

    /// @dev Takes `released` out of an account's lock and returns `refunded` of it; the rest was credited to others.
    function _unlock(uint32 account, uint8 token, uint256 released, uint256 refunded) private {
        uint256 key = _accountKey(account, token);
        _accounts[key] = _accounts[key] - (released << 112) + refunded;
    }

    function _takeCredit(address payee, uint8 token, address to) private returns (uint256 amount) {
        uint256 key = _creditKey(payee, token);
        amount = _credits[key];
        if (amount == 0) return 0;
        _credits[key] = 0;
        emit CreditWithdrawn(payee, token, to, amount);
    }

    /// @dev The last step of whoever calls it: a token that calls back finds everything done.
    function _send(uint8 token, uint256 listed, address to, uint256 amount) private {
        // Tokens sent here would belong to nobody.
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
        address tokenAddress = address(uint160(listed >> 96));
        if (tokenAddress == address(0)) revert UnknownToken(token);
        IERC20(tokenAddress).safeTransfer(to, amount);
    }

    function _setFoundation(address newFoundation) private {
        if (newFoundation == address(0)) revert InvalidRecipient(newFoundation);
        foundation = newFoundation;
        emit FoundationChanged(newFoundation);
    }

    function _knownSchedule(uint16 id) private view returns (uint256 packed) {
        if (id == 0 || id > feeScheduleCount) revert UnknownFeeSchedule(id);
        return _feeSchedules[id];
    }

    function _accountKey(uint32 account, uint8 token) private pure returns (uint256) {
        return (uint256(account) << 8) | token;
    }

    function _creditKey(address payee, uint8 token) private pure returns (uint256) {
        return (uint256(uint160(payee)) << 8) | token;
    }
}
