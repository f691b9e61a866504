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

    /// @dev One slot, read whole by every order.
    struct Token {
        address tokenAddress;
        bool enabled;
        uint16 feeSchedule;
    }

    /// @dev Score cards and answers number tokens with 32 bits.
    uint8 private constant HIGHEST_TOKEN = 31;
    /// @dev Order words have nine bits for the schedule.
    uint16 private constant MAXIMUM_FEE_SCHEDULES = 511;

    /// @inheritdoc IEscrow
    address public immutable override orderBook;

    /// @inheritdoc IEscrow
    address public override foundation;
    /// @inheritdoc IEscrow
    uint32 public override accountCount;
    /// @inheritdoc IEscrow
    uint16 public override feeScheduleCount;

    mapping(uint256 id => Token) private _tokens;
    mapping(uint256 id => FeeSchedule) private _feeSchedules;
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
        address tokenAddress = _tokenAddress(token);

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
    function withdraw(uint32 account, uint8 token, uint256 amount, address to) external override nonReentrant {
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
        _send(token, to, amount);
    }

    /// @inheritdoc IEscrow
    function withdrawCredit(uint8 token, address to) external override returns (uint256 amount) {
        return _payOut(msg.sender, token, 0, to);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IEscrow
    function addFeeSchedule(FeeSchedule calldata schedule) external override restricted returns (uint16 id) {
        uint256 total = uint256(schedule.commission) + schedule.userFee + schedule.providerFee;
        if (total > Fees.MAXIMUM) revert FeesTooHigh(total, Fees.MAXIMUM);
        if (feeScheduleCount == MAXIMUM_FEE_SCHEDULES) revert FeeSchedulesExhausted(feeScheduleCount);
        id = ++feeScheduleCount;
        _feeSchedules[id] = schedule;
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
        address current = _tokens[token].tokenAddress;
        if (tokenAddress == address(0) || (current != address(0) && current != tokenAddress)) {
            revert TokenAddressFixed(token, current, tokenAddress);
        }
        _tokens[token] = Token(tokenAddress, enabled, schedule);
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
        Token memory listed = _tokens[token];
        if (!listed.enabled) revert TokenNotEnabled(token);
        schedule = listed.feeSchedule;
        uint256 amount = _lockFor(rate, duration, _feeSchedules[schedule]);

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
        uint256 amount = _lockFor(orderWord.rate(), orderWord.duration(), _feeSchedules[orderWord.feeSchedule()]);
        _unlock(OrderId.account(orderId), OrderId.token(orderId), amount, amount);
    }

    /// @inheritdoc IEscrow
    function openLeases(uint256[] calldata changes, address responder) external override onlyOrderBook {
        uint256[] memory matchFees = new uint256[](uint256(HIGHEST_TOKEN) + 1);
        for (uint256 index = 0; index < changes.length; ++index) {
            uint256 change = changes[index];
            FeeSchedule memory schedule = _feeSchedules[(change >> 197) & 511];
            uint256 duration = (change >> 168) & OrderWord.MAXIMUM_DURATION;
            uint256 locked =
                Fees.leaseLock((change >> 84) & OrderWord.MAXIMUM_RATE, duration, schedule) + schedule.matchFee;
            uint256 kept = 0;
            uint256 matchFee = 0;
            uint256 rate = change & OrderWord.MAXIMUM_RATE;
            if (rate != 0) {
                kept = Fees.leaseLock(rate, duration, schedule);
                matchFee = schedule.matchFee;
                matchFees[uint8(change >> 206)] += matchFee;
            }
            _unlock(uint32(change >> 214), uint8(change >> 206), locked - kept, locked - kept - matchFee);
        }
        for (uint256 token = 0; token < matchFees.length; ++token) {
            if (matchFees[token] != 0) _credits[_creditKey(responder, uint8(token))] += matchFees[token];
        }
    }

    /// @inheritdoc IEscrow
    function settleLease(uint64 orderId, uint256 orderWord, uint256 until)
        external
        override
        onlyOrderBook
        returns (uint256 amount)
    {
        FeeSchedule memory schedule = _feeSchedules[orderWord.feeSchedule()];
        uint256 gross = Fees.gross(orderWord.rate(), until);
        amount = Fees.net(gross, schedule) - Fees.net(Fees.gross(orderWord.rate(), orderWord.settledFor()), schedule);
        if (orderWord.state() == OrderState.Leased) return amount;
        // Closed inside the payout hold: the lock is down to what accrued, and all of it is due now.
        _creditFees(OrderId.token(orderId), gross, schedule);
        _unlock(OrderId.account(orderId), OrderId.token(orderId), gross + Fees.userFee(gross, schedule), 0);
    }

    /// @inheritdoc IEscrow
    function closeLease(uint64 orderId, uint256 orderWord, uint256 billed, bool held, address payee)
        external
        override
        onlyOrderBook
        returns (uint256 amount)
    {
        FeeSchedule memory schedule = _feeSchedules[orderWord.feeSchedule()];
        uint8 token = OrderId.token(orderId);
        uint256 gross = Fees.gross(orderWord.rate(), billed);
        uint256 spent = gross + Fees.userFee(gross, schedule);
        uint256 locked = Fees.leaseLock(orderWord.rate(), orderWord.duration(), schedule);
        if (held) {
            _unlock(OrderId.account(orderId), token, locked - spent, locked - spent);
            return 0;
        }
        amount = Fees.net(gross, schedule) - Fees.net(Fees.gross(orderWord.rate(), orderWord.settledFor()), schedule);
        if (amount != 0) _credits[_creditKey(payee, token)] += amount;
        _creditFees(token, gross, schedule);
        _unlock(OrderId.account(orderId), token, locked, locked - spent);
    }

    /// @inheritdoc IEscrow
    function credit(address payee, uint8 token, uint256 amount) external override onlyOrderBook {
        _credits[_creditKey(payee, token)] += amount;
    }

    /// @inheritdoc IEscrow
    function payOut(address payee, uint8 token, uint256 amount, address to)
        external
        override
        onlyOrderBook
        returns (uint256 paid)
    {
        return _payOut(payee, token, amount, to);
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
        return _knownSchedule(id);
    }

    /// @inheritdoc IEscrow
    function tokenOf(uint8 token) external view override returns (address tokenAddress, bool enabled, uint16 schedule) {
        Token memory listed = _tokens[token];
        return (listed.tokenAddress, listed.enabled, listed.feeSchedule);
    }

    /// @inheritdoc IEscrow
    function lockFor(uint96 rate, uint32 duration, uint16 schedule) external view override returns (uint256) {
        return _lockFor(rate, duration, _knownSchedule(schedule));
    }

    /// @inheritdoc IEscrow
    function netOf(uint256 orderWord, uint256 until) external view override returns (uint256) {
        FeeSchedule memory schedule = _feeSchedules[orderWord.feeSchedule()];
        uint256 paid = Fees.net(Fees.gross(orderWord.rate(), orderWord.settledFor()), schedule);
        return Fees.net(Fees.gross(orderWord.rate(), until), schedule) - paid;
    }

    // ---------------------------------------------------------------- private

    function _checkAccountOwner(uint32 account, address caller) private view {
        address owner = _ownerOf(account);
        if (owner != caller || caller == address(0)) revert NotAccountOwner(account, caller, owner);
    }

    /// @dev The user fee and what is not the supplier's. Only at the end of a lease, on cumulative amounts.
    function _creditFees(uint8 token, uint256 gross, FeeSchedule memory schedule) private {
        uint256 fees = gross - Fees.net(gross, schedule) + Fees.userFee(gross, schedule);
        if (fees != 0) _credits[_creditKey(foundation, token)] += fees;
    }

    /// @dev Takes `released` out of an account's lock and returns `refunded` of it; the rest was credited to others.
    function _unlock(uint32 account, uint8 token, uint256 released, uint256 refunded) private {
        uint256 key = _accountKey(account, token);
        _accounts[key] = _accounts[key] - (released << 112) + refunded;
    }

    function _payOut(address payee, uint8 token, uint256 amount, address to)
        private
        nonReentrant
        returns (uint256 paid)
    {
        uint256 key = _creditKey(payee, token);
        uint256 credited = _credits[key];
        paid = credited + amount;
        if (paid == 0) revert NothingToWithdraw(payee, token);
        if (credited != 0) _credits[key] = 0;
        emit CreditWithdrawn(payee, token, to, paid);
        _send(token, to, paid);
    }

    function _send(uint8 token, address to, uint256 amount) private {
        // Tokens sent here would belong to nobody.
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
        IERC20(_tokenAddress(token)).safeTransfer(to, amount);
    }

    function _setFoundation(address newFoundation) private {
        if (newFoundation == address(0)) revert InvalidRecipient(newFoundation);
        foundation = newFoundation;
        emit FoundationChanged(newFoundation);
    }

    function _tokenAddress(uint8 token) private view returns (address tokenAddress) {
        tokenAddress = _tokens[token].tokenAddress;
        if (tokenAddress == address(0)) revert UnknownToken(token);
    }

    function _knownSchedule(uint16 id) private view returns (FeeSchedule memory) {
        if (id == 0 || id > feeScheduleCount) revert UnknownFeeSchedule(id);
        return _feeSchedules[id];
    }

    function _lockFor(uint256 rate, uint256 duration, FeeSchedule memory schedule) private pure returns (uint256) {
        return Fees.leaseLock(rate, duration, schedule) + schedule.matchFee;
    }

    function _accountKey(uint32 account, uint8 token) private pure returns (uint256) {
        return (uint256(account) << 8) | token;
    }

    function _creditKey(address payee, uint8 token) private pure returns (uint256) {
        return (uint256(uint160(payee)) << 8) | token;
    }
}
