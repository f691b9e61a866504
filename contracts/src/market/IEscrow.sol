// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule} from "../Types.sol";

/// @title Accounts, locks, credits
/// @notice Accounts are ERC-721 tokens: one wallet opens many and hands one over with its leases. Approval of the token
/// moves the account, never its money.
interface IEscrow {
    event AccountOpened(uint32 indexed account, address indexed owner);
    event Deposited(uint32 indexed account, uint8 indexed token, address from, uint256 amount);
    event Withdrawn(uint32 indexed account, uint8 indexed token, address to, uint256 amount);
    /// @notice A credit was paid out. What {IOrderBook-settleAndWithdraw} settles is paid without becoming a credit.
    event CreditWithdrawn(address indexed payee, uint8 indexed token, address to, uint256 amount);
    event FeeScheduleAdded(uint16 indexed id, FeeSchedule schedule);
    event FoundationChanged(address indexed foundation);
    /// @notice A payment token was listed, enabled, delisted for new orders, or got another fee schedule.
    event TokenSet(uint8 indexed token, address indexed tokenAddress, bool enabled, uint16 feeSchedule);

    /// @dev Only the order book moves locks and credits.
    error NotOrderBook(address caller);
    /// @dev Only the payment tokens contract named by the order book sets tokens.
    error NotPaymentTokens(address caller);
    /// @dev `owner` is zero if the account does not exist.
    error NotAccountOwner(uint32 account, address caller, address owner);
    error UnknownAccount(uint32 account);
    error AccountsExhausted(uint32 accountCount);
    error UnknownToken(uint8 token);
    error TokenNotEnabled(uint8 token);
    /// @dev The address behind a token id never changes.
    error TokenAddressFixed(uint8 token, address current, address given);
    error TokenIdOutOfRange(uint8 token, uint8 highest);
    error ZeroAmount();
    error InvalidRecipient(address recipient);
    error InsufficientBalance(uint32 account, uint8 token, uint256 unlocked, uint256 needed);
    /// @dev An account holds at most 112 bits of a token.
    error BalanceTooLarge(uint32 account, uint8 token, uint256 held, uint256 amount);
    /// @dev The token took a fee, or moved something else than it was told.
    error TransferMismatch(address token, uint256 expected, uint256 received);
    error NothingToWithdraw(address payee, uint8 token);
    error UnknownFeeSchedule(uint16 id);
    error FeeSchedulesExhausted(uint16 count);
    error FeesTooHigh(uint256 basisPoints, uint256 maximum);
    /// @dev A match fee has at most 44 significant bits.
    error MatchFeeTooPrecise(uint96 matchFee);
    /// @dev An account makes at most 2^24 - 1 orders in a token.
    error NoncesExhausted(uint32 account, uint8 token);

    /// @notice Opens an account for `owner`.
    function open(address owner) external returns (uint32 account);
    /// @notice Moves tokens of the caller into an account. Anyone may deposit into anyone's.
    function deposit(uint32 account, uint8 token, uint256 amount) external;
    /// @notice Moves unlocked tokens out. Only the account's owner.
    function withdraw(uint32 account, uint8 token, uint256 amount, address to) external;
    /// @notice Moves the caller's whole credit out.
    function withdrawCredit(uint8 token, address to) external returns (uint256 amount);

    // ------------------------------------------------------------- governance

    /// @notice Adds a fee schedule; ids start at 1 and are never reused. Commission, user fee and provider fee together are at
    /// most 25 %.
    function addFeeSchedule(FeeSchedule calldata schedule) external returns (uint16 id);
    /// @notice Names who is credited the fees of leases that close from now on.
    function setFoundation(address newFoundation) external;
    /// @notice Sets a payment token. Only {IPaymentTokens}; the address of an id is fixed by the first call.
    function setToken(uint8 token, address tokenAddress, bool enabled, uint16 schedule) external;

    // ------------------------------------------------------------- order book
    // Called by the order book alone. `orderWord` is the order's word as it stood before the call, see {OrderWord}.

    /// @notice Locks the worst case of a new order. Reverts unless `owner` owns the account.
    function lockOrder(uint32 account, uint8 token, address owner, uint256 rate, uint256 duration)
        external
        returns (uint256 nonce, uint256 schedule);
    /// @notice Returns the whole lock of an order that will not become a lease.
    function releaseOrder(uint64 orderId, uint256 orderWord) external;
    /// @notice Lowers the locks of matched orders to the rates taken, credits the match fees to `responder`, and releases
    /// the locks of orders that expire.
    /// @param changes One word an order: rate taken 84 at 0 (zero: release everything) | maximum rate 84 at 84 | duration 29 at 168 |
    /// fee schedule 9 at 197 | token 8 at 206 | account 32 at 214.
    function openLeases(uint256[] calldata changes, address responder) external;
    /// @notice What a lease pays its supplier from what is settled to `until` (seconds after its start). For a closed lease
    /// this is its end: the fees are credited and its lock is spent. The caller passes the amount on, as `carried`.
    function settleLease(uint64 orderId, uint256 orderWord, uint256 until) external returns (uint256 amount);
    /// @notice {settleLease}, credited to the payee.
    function settleAndCredit(uint64 orderId, uint256 orderWord, uint256 until, address payee)
        external
        returns (uint256 amount);
    /// @notice {settleLease}, sent together with `carried` and the whole credit of `creditor` (zero: of nobody). `until` may be
    /// what is settled already.
    function settleAndPay(
        uint64 orderId,
        uint256 orderWord,
        uint256 until,
        uint256 carried,
        address creditor,
        address to
    ) external returns (uint256 amount, uint256 paid);
    /// @notice Ends a lease after `billed` seconds. Inside the payout hold (`held`) only the unused part is returned, what
    /// accrued stays locked for {settleLease}; later everything is credited.
    function closeLease(uint64 orderId, uint256 orderWord, uint256 billed, bool held, address payee)
        external
        returns (uint256 amount);

    /// @notice Returns everything that is still locked for a lease inside its payout hold, whether it lives or was closed:
    /// nothing was billed.
    function undoLease(uint64 orderId, uint256 orderWord) external;

    // ------------------------------------------------------------------ views

    function orderBook() external view returns (address);
    function foundation() external view returns (address);
    function ownerOf(uint256 account) external view returns (address);
    function accountCount() external view returns (uint32);
    /// @notice What an account holds of a token, and the nonce of its last order in it.
    function balances(uint32 account, uint8 token)
        external
        view
        returns (uint256 unlocked, uint256 locked, uint32 nonce);
    function creditOf(address payee, uint8 token) external view returns (uint256);
    function feeSchedule(uint16 id) external view returns (FeeSchedule memory);
    function feeScheduleCount() external view returns (uint16);
    /// @notice Address of a payment token (zero if unknown), whether new orders may use it, and the schedule they freeze.
    function tokenOf(uint8 token) external view returns (address tokenAddress, bool enabled, uint16 schedule);
    /// @notice Net amount a lease would pay its supplier if it were settled to `until`.
    function netOf(uint64 orderId, uint256 orderWord, uint256 until) external view returns (uint256);
    /// @notice Worst case of a lease: the stream and the user fee, both rounded up, and the match fee.
    function lockFor(uint96 rate, uint32 duration, uint16 schedule) external view returns (uint256);
}
