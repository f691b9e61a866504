// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Where the market's commission goes
/// @notice The escrow's foundation. Anyone collects what was credited; a governed share rewards challengers, another the
/// operators (EigenLayer operator-directed rewards, by stake), the rest is the foundation's.
interface ICommissionSplit {
    /// @notice In token units: what came in and how it was divided, see {setShares}.
    event CommissionCollected(uint8 indexed token, uint256 toReserve, uint256 toOperators, uint256 toFoundation);
    /// @notice `amount` token units wait for the challenger, see {withdrawReward}.
    event ChallengerRewarded(address indexed challenger, uint8 indexed token, uint256 amount);
    /// @notice `amount` token units of the challenger's went to `to`.
    event RewardWithdrawn(address indexed challenger, uint8 indexed token, address to, uint256 amount);
    /// @notice `amount` token units, all of the foundation's part, went to `to`.
    event FoundationWithdrawn(uint8 indexed token, address to, uint256 amount);
    /// @notice The operators' share of a token was submitted to EigenLayer's RewardsCoordinator.
    event OperatorsRewarded(
        uint8 indexed token, uint8 indexed quorum, uint256 amount, uint32 startTimestamp, uint32 duration
    );
    /// @notice In basis points, of what is collected from now on; the rest is the foundation's.
    event SharesSet(uint16 reserveShare, uint16 operatorShare);
    /// @notice What a challenger is paid.
    event RewardSet(uint8 token, uint256 amount);

    /// @dev {rewardChallenger} is for the disputes contract that the order book names, alone.
    error NotDisputes(address caller);
    /// @dev Both shares together; `maximum` is 10 000, all of it.
    error SharesTooHigh(uint256 basisPoints, uint256 maximum);
    /// @dev The escrow has no token under this id.
    error UnknownToken(uint8 token);
    /// @dev The zero address, or this contract, which would collect it as commission.
    error InvalidRecipient(address recipient);
    /// @dev The caller earned nothing in the token, or the foundation's part of it is empty.
    error NothingToWithdraw(uint8 token);
    /// @dev The escrow credited nothing since the last time.
    error NothingToCollect(uint8 token);
    /// @dev No operators' share is held, or less than one unit a quorum.
    error NothingToReward(uint8 token);
    /// @dev EigenLayer takes whole days that are past.
    error RewardsTooEarly(uint256 nextTimestamp, uint256 timestamp);
    /// @dev One list of operators per quorum of the registry coordinator.
    error WrongQuorumCount(uint256 given, uint256 quorumCount);
    /// @dev The operators of a quorum ascend strictly by address.
    error OperatorsNotAscending(address previous, address operator);
    /// @dev The operator has no stake in the quorum as of the last block.
    error NotInQuorum(address operator, uint8 quorum);
    /// @dev Not everybody in the quorum is named: their stakes do not sum up to the quorum's.
    error OperatorsMissing(uint8 quorum, uint256 named, uint256 total);
    /// @dev EigenLayer took something else than it was told, or the token moved it elsewhere.
    error TransferMismatch(address token, uint256 expected, uint256 moved);
    /// @dev At deployment: the coordinator does not support the service manager's AVS.
    error CoordinatorOfAnotherAvs(address registryCoordinator, address serviceManager);

    /// @notice Takes what the escrow credited and divides it, together with whatever else was sent here (EigenLayer refunds
    /// an AVS what it could not distribute). Anyone may call.
    function collect(uint8 token) external returns (uint256 amount);
    /// @notice Credits the reward, or what is there of it, to whoever proved an answer wrong. Only the disputes contract
    /// that the order book names. Never reverts for lack of money.
    function rewardChallenger(address challenger) external returns (uint256 amount);
    /// @notice Moves out what the caller earned as a challenger.
    function withdrawReward(uint8 token, address to) external returns (uint256 amount);
    /// @notice Submits the operators' share of a token for the days since the last time, divided equally among quorums and
    /// within each by stake: the smaller of what an operator had at the start and has now, so that nobody earns for stake it
    /// just brought. Whose signatures an aggregator counted plays no part: it could leave some out. What a quorum cannot be
    /// paid (nobody had stake the whole time; units too small to divide) is kept for the next time. Anyone may call.
    /// @param operators All operators of each quorum that have stake, by quorum, ascending by address.
    function rewardOperators(uint8 token, address[][] calldata operators) external;

    // ------------------------------------------------------------- governance

    /// @notice Moves out the foundation's part.
    function withdrawFoundation(uint8 token, address to) external returns (uint256 amount);
    /// @notice Basis points of the commission for challengers' rewards and for operators, of what is collected from now on.
    function setShares(uint16 reserveShare, uint16 operatorShare) external;
    /// @notice Sets what a challenger is paid from now on, in units of one payment token.
    function setReward(uint8 token, uint256 amount) external;

    // ------------------------------------------------------------------ views

    /// @notice In basis points, see {setShares}.
    function shares() external view returns (uint16 reserveShare, uint16 operatorShare);
    /// @notice What a challenger is paid, in token units, see {setReward}.
    function reward() external view returns (uint8 token, uint256 amount);
    /// @notice What is held of a token for each purpose.
    function held(uint8 token)
        external
        view
        returns (uint256 forChallengers, uint256 forOperators, uint256 forFoundation);
    /// @notice Token units that {withdrawReward} would send the challenger now.
    function rewardOf(address challenger, uint8 token) external view returns (uint256);
    /// @notice Timestamp up to which operators were rewarded in a token; at first the start of the day of its first
    /// collection, zero before.
    function rewardedUntil(uint8 token) external view returns (uint32);
    /// @notice Block at which stake must have been there to earn in the next distribution of a token.
    function stakedSince(uint8 token) external view returns (uint32);
    /// @notice The {IEscrow} whose foundation this is meant to be. Immutable.
    function escrow() external view returns (address);
    /// @notice EigenLayer's `RewardsCoordinator`. Immutable.
    function rewardsCoordinator() external view returns (address);
    /// @notice The AVS account in EigenLayer. Immutable.
    function serviceManager() external view returns (address);
    /// @notice The middleware's coordinator, whose quorums are paid. Immutable.
    function registryCoordinator() external view returns (address);
}
