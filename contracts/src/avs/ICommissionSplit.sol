// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title Where the market's commission goes
/// @notice The escrow's foundation. Anyone collects what was credited; a governed share rewards challengers, another the
/// operators (EigenLayer operator-directed rewards, by stake), the rest is the foundation's.
interface ICommissionSplit {
    event CommissionCollected(uint8 indexed token, uint256 toReserve, uint256 toOperators, uint256 toFoundation);
    event ChallengerRewarded(address indexed challenger, uint8 indexed token, uint256 amount);
    event RewardWithdrawn(address indexed challenger, uint8 indexed token, address to, uint256 amount);
    event FoundationWithdrawn(uint8 indexed token, address to, uint256 amount);
    /// @notice The operators' share of a token was submitted to EigenLayer's RewardsCoordinator.
    event OperatorsRewarded(
        uint8 indexed token, uint8 indexed quorum, uint256 amount, uint32 startTimestamp, uint32 duration
    );
    event SharesSet(uint16 reserveShare, uint16 operatorShare);
    /// @notice What a challenger is paid.
    event RewardSet(uint8 token, uint256 amount);

    error NotDisputes(address caller);
    error SharesTooHigh(uint256 basisPoints, uint256 maximum);
    error UnknownToken(uint8 token);
    error InvalidRecipient(address recipient);
    error NothingToWithdraw(uint8 token);
    /// @dev The escrow credited nothing since the last time.
    error NothingToCollect(uint8 token);
    /// @dev No operators' share is held, or less than one unit a quorum.
    error NothingToReward(uint8 token);
    /// @dev EigenLayer takes whole days that are past.
    error RewardsTooEarly(uint256 nextTimestamp, uint256 timestamp);
    /// @dev One list of operators per quorum of the registry coordinator.
    error WrongQuorumCount(uint256 given, uint256 quorumCount);
    error OperatorsNotAscending(address previous, address operator);
    error NotInQuorum(address operator, uint8 quorum);
    /// @dev Not everybody in the quorum is named: their stakes do not sum up to the quorum's.
    error OperatorsMissing(uint8 quorum, uint256 named, uint256 total);
    /// @dev EigenLayer took something else than it was told, or the token moved it elsewhere.
    error TransferMismatch(address token, uint256 expected, uint256 moved);
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
    function setReward(uint8 token, uint256 amount) external;

    // ------------------------------------------------------------------ views

    function shares() external view returns (uint16 reserveShare, uint16 operatorShare);
    function reward() external view returns (uint8 token, uint256 amount);
    /// @notice What is held of a token for each purpose.
    function held(uint8 token)
        external
        view
        returns (uint256 forChallengers, uint256 forOperators, uint256 forFoundation);
    function rewardOf(address challenger, uint8 token) external view returns (uint256);
    /// @notice Timestamp up to which operators were rewarded in a token; at first the start of the day of its first
    /// collection, zero before.
    function rewardedUntil(uint8 token) external view returns (uint32);
    /// @notice Block at which stake must have been there to earn in the next distribution of a token.
    function stakedSince(uint8 token) external view returns (uint32);
    function escrow() external view returns (address);
    function rewardsCoordinator() external view returns (address);
    function serviceManager() external view returns (address);
    function registryCoordinator() external view returns (address);
}
