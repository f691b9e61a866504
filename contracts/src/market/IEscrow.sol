// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {FeeSchedule, SpendingRight} from "../Types.sol";

/// @title Accounts, locks, credits
/// @notice Accounts are ERC-721 tokens: one wallet opens many and hands one over with its leases. Approval of the token
/// moves the account, never its money; spending rights are separate, and end when the account changes hands.
interface IEscrow {
    /// @notice `owner` is the first one: of later ones ERC-721's `Transfer` tells.
    event AccountOpened(uint32 indexed account, address indexed owner);
    /// @notice `amount` token units of `from`, who need not own the account, are in it, unlocked.
    event Deposited(uint32 indexed account, uint8 indexed token, address from, uint256 amount);
    /// @notice In place of whatever the spender had in that token, see {SpendingRight}; all zero takes the right back. Updates
    /// that the spender proposed fall.
    event SpendingRightSet(
        uint32 indexed account,
        address indexed spender,
        uint8 indexed token,
        uint112 limit,
        uint40 expiry,
        bool mayClose
    );
    /// @notice A spender locked `amount`, or proposed an update of that worst case; `left` remains.
    event Spent(uint32 indexed account, address indexed spender, uint8 indexed token, uint256 amount, uint256 left);
    /// @notice The bracket says how much compute one order may ask for, see {Brackets}.
    event BracketChanged(uint32 indexed account, uint8 indexed token, uint8 bracket);
    /// @notice `amount` token units that were unlocked went to `to`.
    event Withdrawn(uint32 indexed account, uint8 indexed token, address to, uint256 amount);
    /// @notice A credit was paid out. What {IOrderBook-settleAndWithdraw} settles is paid without becoming a credit.
    event CreditWithdrawn(address indexed payee, uint8 indexed token, address to, uint256 amount);
    /// @notice Twice for each pair: under the even id, and under the odd one of the rebated class.
    event FeeScheduleAdded(uint16 indexed id, FeeSchedule schedule);
    /// @notice Credited the fees that fall due from now on, see {setFoundation}.
    event FoundationChanged(address indexed foundation);
    /// @notice A payment token was listed, enabled, delisted for new orders, or got another fee schedule.
    event TokenSet(uint8 indexed token, address indexed tokenAddress, bool enabled, uint16 feeSchedule);

    /// @dev Only the order book moves locks and credits.
    error NotOrderBook(address caller);
    /// @dev Only the payment tokens contract named by the order book sets tokens.
    error NotPaymentTokens(address caller);
    /// @dev `owner` is zero if the account does not exist.
    error NotAccountOwner(uint32 account, address caller, address owner);
    /// @dev The right is worth nothing from this Unix time on.
    error SpendingRightExpired(uint32 account, uint8 token, address spender, uint40 expiry);
    /// @dev In token units: what is left of the spender's limit, and the worst case of what it asks for.
    error SpendingLimitExceeded(uint32 account, uint8 token, address spender, uint256 left, uint256 needed);
    /// @dev The owner needs no spending right.
    error SpenderIsOwner(uint32 account, address spender);
    /// @dev Nobody opened the account that is to receive the deposit.
    error UnknownAccount(uint32 account);
    /// @dev Ids have 32 bits, and all are given.
    error AccountsExhausted(uint32 accountCount);
    /// @dev {setToken} was never called for the id.
    error UnknownToken(uint8 token);
    /// @dev The token takes no new orders: it is paused, delisted or unknown.
    error TokenNotEnabled(uint8 token);
    /// @dev The address behind a token id never changes.
    error TokenAddressFixed(uint8 token, address current, address given);
    /// @dev Score cards number tokens with 32 bits: `highest` is 31.
    error TokenIdOutOfRange(uint8 token, uint8 highest);
    /// @dev The escrow would hold more of the token than governance allows.
    error CapExceeded(uint8 token, uint256 total, uint256 cap);
    /// @dev Of a deposit or a withdrawal.
    error ZeroAmount();
    /// @dev Nothing is paid or credited to the zero address or to the escrow itself: nobody could take it out again.
    error InvalidRecipient(address recipient);
    /// @dev In token units: what the account has unlocked, and what is to be locked or withdrawn.
    error InsufficientBalance(uint32 account, uint8 token, uint256 unlocked, uint256 needed);
    /// @dev An account holds at most 112 bits of a token.
    error BalanceTooLarge(uint32 account, uint8 token, uint256 held, uint256 amount);
    /// @dev The token took a fee, or moved something else than it was told.
    error TransferMismatch(address token, uint256 expected, uint256 received);
    /// @dev {withdrawCredit}: the payee has no credit in the token.
    error NothingToWithdraw(address payee, uint8 token);
    /// @dev Ids run from 2 to `2 * feeScheduleCount() + 1`. A token takes even ones only.
    error UnknownFeeSchedule(uint16 id);
    /// @dev Order words have room for `count` (255) pairs.
    error FeeSchedulesExhausted(uint16 count);
    /// @dev Commission, user fee and provider fee together; `maximum` (2 500) is immutable.
    error FeesTooHigh(uint256 basisPoints, uint256 maximum);
    /// @dev `maximum` (5 000) is immutable.
    error GatewayShareTooHigh(uint256 basisPoints, uint256 maximum);
    /// @dev The rebated commission is above the commission.
    error RebateIsNegative(uint16 commission, uint16 rebatedCommission);
    /// @dev A match fee has at most 20 significant bits (six digits always fit), times a power of ten.
    error MatchFeeTooPrecise(uint96 matchFee);
    /// @dev A deposit's price and cap are looked up with a fixed amount of gas, and less than that was left. What is not used
    /// comes back.
    error GasTooLow(uint256 needed);
    /// @dev The token's price cannot be used now; {IPaymentTokens-price} says why.
    error NoUsablePrice(uint8 token);
    /// @dev An account makes at most 2^24 - 1 orders in a token.
    error NoncesExhausted(uint32 account, uint8 token);

    /// @notice Opens an account for `owner`.
    function open(address owner) external returns (uint32 account);
    /// @notice Moves tokens of the caller into an account. Anyone may deposit into anyone's. Refused above the token's cap.
    /// Raises the account's bracket if the token's price is usable.
    function deposit(uint32 account, uint8 token, uint256 amount) external;
    /// @notice {deposit} with the caller's ERC-2612 permit. A permit that fails (somebody brought it in first) does not matter
    /// as long as the allowance is there.
    function depositWithPermit(
        uint32 account,
        uint8 token,
        uint256 amount,
        uint256 deadline,
        uint8 v,
        bytes32 r,
        bytes32 s
    ) external;
    /// @notice {deposit} through Permit2's SignatureTransfer, signed by the caller.
    function depositWithPermit2(
        uint32 account,
        uint8 token,
        uint256 amount,
        uint256 nonce,
        uint256 deadline,
        bytes calldata signature
    ) external;
    /// @notice Sets the bracket of what the account holds of the token at today's price. Anyone may call; reverts unless the
    /// price is usable.
    function updateBracket(uint32 account, uint8 token) external returns (uint8 bracket);
    /// @notice Lets `spender` lock money of the account, see {SpendingRight}; all zero takes the right back. Only the owner.
    function setSpendingRight(uint32 account, address spender, uint8 token, SpendingRight calldata right) external;
    /// @notice Moves unlocked tokens out and lowers the bracket by as many steps as the holding halves, rounded up. Only the
    /// account's owner.
    function withdraw(uint32 account, uint8 token, uint256 amount, address to) external;
    /// @notice Moves the caller's whole credit out.
    function withdrawCredit(uint8 token, address to) external returns (uint256 amount);

    // ------------------------------------------------------------- governance

    /// @notice Adds a pair of fee schedules; `id` is even, from 2 on, never reused; `id + 1` differs in its commission alone.
    /// Commission, user fee and provider fee together are at most 25 %, the gateway's share at most 50 %.
    function addFeeSchedule(FeeSchedule calldata schedule, uint16 rebatedCommission) external returns (uint16 id);
    /// @notice Names who is credited the fees that fall due from now on: when a lease closes or, if that was inside its payout
    /// hold, when it is settled.
    function setFoundation(address newFoundation) external;
    /// @notice Sets a payment token. Only {IPaymentTokens}; the address of an id is fixed by the first call, `schedule` is even.
    function setToken(uint8 token, address tokenAddress, bool enabled, uint16 schedule) external;

    // ------------------------------------------------------------- order book
    // Called by the order book alone. `orderWord` is the order's word as it stood before the call, see {OrderWord}.

    /// @notice Locks the worst case of a new order. Reverts unless `caller` owns the account or may spend as much.
    function lockOrder(uint32 account, uint8 token, address caller, uint256 rate, uint256 duration)
        external
        returns (uint256 nonce, uint256 schedule, uint256 bracket);
    /// @notice Checks that `caller` may propose a lease of this worst case at today's schedule, and takes it from a spender's
    /// limit. Locks nothing. In a delisted token too: that blocks new orders only.
    function authoriseUpdate(uint32 account, uint8 token, address caller, uint256 rate, uint256 duration)
        external
        returns (uint256 bracket);
    /// @notice Locks the worst case of a lease that replaces another, without a match fee: the caller has checked the proposal.
    function lockUpdate(uint32 account, uint8 token, uint256 rate, uint256 duration)
        external
        returns (uint256 nonce, uint256 schedule);
    /// @notice Locks what the lease needs more to last `duration` seconds from its start, which are not fewer than now. Reverts
    /// unless `caller` owns the account or may spend as much.
    function extendLease(uint64 orderId, uint256 orderWord, uint256 duration, address caller)
        external
        returns (uint256 locked);
    /// @notice Returns the whole lock of an order that will not become a lease.
    function releaseOrder(uint64 orderId, uint256 orderWord) external;
    /// @notice Lowers the locks of matched orders to the rates taken, credits the match fees to `responder`, and releases
    /// the locks of orders that expire.
    /// @param changes One word an order: rate taken 84 at 0 (zero: release everything) | maximum rate 84 at 84 | duration
    /// 29 at 168 | fee schedule 9 at 197 | token 8 at 206 | account 32 at 214.
    function openLeases(uint256[] calldata changes, address responder) external;
    /// @notice What a lease pays its supplier from what is settled to `until` (seconds after its start). For a closed lease
    /// this is its end: the fees are credited and its lock is spent. The caller passes `amount` on, as `carried`; the gateway's
    /// share is credited to `gateway` (owner of the gateway; zero for a provider's lease).
    function settleLease(uint64 orderId, uint256 orderWord, uint256 until, address gateway)
        external
        returns (uint256 amount, uint256 gatewayAmount);
    /// @notice {settleLease}, credited to the payee.
    function settleAndCredit(uint64 orderId, uint256 orderWord, uint256 until, address payee, address gateway)
        external
        returns (uint256 amount, uint256 gatewayAmount);
    /// @notice {settleLease}, sent together with `carried` and the whole credit of `creditor` (zero: of nobody). `until` may be
    /// what is settled already.
    function settleAndPay(
        uint64 orderId,
        uint256 orderWord,
        uint256 until,
        uint256 carried,
        address creditor,
        address gateway,
        address to
    ) external returns (uint256 amount, uint256 gatewayAmount, uint256 paid);
    /// @notice Ends a lease after `billed` seconds. Inside the payout hold (`held`) only the unused part is returned, what
    /// accrued stays locked for {settleLease}; later everything is credited.
    function closeLease(uint64 orderId, uint256 orderWord, uint256 billed, bool held, address payee, address gateway)
        external
        returns (uint256 amount, uint256 gatewayAmount);

    /// @notice Returns everything that is still locked for a lease inside its payout hold, whether it lives or was closed:
    /// nothing was billed.
    function undoLease(uint64 orderId, uint256 orderWord) external;

    // ------------------------------------------------------------------ views

    /// @notice The {IOrderBook} that alone moves locks and credits. Immutable.
    function orderBook() external view returns (address);
    /// @notice Who is credited the fees that fall due now, see {setFoundation}.
    function foundation() external view returns (address);
    /// @notice ERC-721's. Reverts with its `ERC721NonexistentToken` if nobody opened the account.
    function ownerOf(uint256 account) external view returns (address);
    /// @notice The account opened last: ids are handed out from 1.
    function accountCount() external view returns (uint32);
    /// @notice What an account holds of a token, and the nonce of its last order in it.
    function balances(uint32 account, uint8 token)
        external
        view
        returns (uint256 unlocked, uint256 locked, uint32 nonce);
    /// @notice Zero is none.
    function bracketOf(uint32 account, uint8 token) external view returns (uint8);
    /// @notice What is left of a right; all zero if there is none or the account has changed hands.
    function spendingRight(uint32 account, address spender, uint8 token) external view returns (SpendingRight memory);
    /// @notice Whether an address may cancel the account's orders and close its leases in the token.
    function mayClose(uint32 account, uint8 token, address caller) external view returns (bool);
    /// @notice On what an update rests that `caller` proposes: by what right it may close the account's leases in the token, and
    /// what the token's fees are. Zero if it may not close. Another one for good once the account changes hands or the right is
    /// set anew, and for as long as the token has other fees: what was proposed before binds nobody then.
    /// @return Account's epoch 24 bits | setting of the spending right, 0 for the owner, 24 | pair of fee schedules 8.
    function basisOf(uint32 account, uint8 token, address caller) external view returns (uint56);
    /// @notice Grows when the account changes hands.
    function epochOf(uint32 account) external view returns (uint32);
    /// @notice Uniswap's Permit2, for {depositWithPermit2}. Immutable.
    function permit2() external view returns (address);
    /// @notice Token units that {withdrawCredit} would send to the payee's choice now.
    function creditOf(address payee, uint8 token) external view returns (uint256);
    /// @notice Of a pair the even id is for everyone, the odd one for the rebated class. Reverts with {UnknownFeeSchedule}.
    function feeSchedule(uint16 id) external view returns (FeeSchedule memory);
    /// @notice Pairs of schedules: the highest id is `2 * feeScheduleCount() + 1`.
    function feeScheduleCount() external view returns (uint16);
    /// @notice Address of a payment token (zero if unknown), whether new orders may use it, and the schedule they freeze.
    function tokenOf(uint8 token) external view returns (address tokenAddress, bool enabled, uint16 schedule);
    /// @notice Net amounts a lease would pay its supplier and, if it is `shared`, its gateway if it were settled to `until`.
    function netOf(uint64 orderId, uint256 orderWord, uint256 until, bool shared)
        external
        view
        returns (uint256 amount, uint256 gatewayAmount);
    /// @notice What a lease would have paid to the foundation after `billed` seconds: user fee, provider fee and commission.
    function feesOf(uint64 orderId, uint256 orderWord, uint256 billed) external view returns (uint256);
    /// @notice Worst case of a lease: the stream and the user fee, both rounded up, and the match fee.
    function lockFor(uint96 rate, uint32 duration, uint16 schedule) external view returns (uint256);
}
