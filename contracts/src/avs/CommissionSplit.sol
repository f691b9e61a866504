// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IEscrow} from "../market/IEscrow.sol";
import {IOrderBook} from "../market/IOrderBook.sol";
import {EigenRegistryCoordinator} from "./EigenLayer.sol";
import {EigenOperatorKeys, EigenRewardsCoordinator, EigenStakeHistory} from "./EigenRewards.sol";
import {ICommissionSplit} from "./ICommissionSplit.sol";
import {StakeHistory} from "./StakeHistory.sol";

/// @title Where the market's commission goes
/// @dev Per token, the balance is at least what is accounted for: the three parts and what challengers may withdraw. Every
/// token keeps its own books, so that one that misbehaves spoils nothing but itself.
///
/// Whoever is the escrow's foundation later, what was credited to this contract before stays its to collect.
contract CommissionSplit is ICommissionSplit, AccessManaged, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using StakeHistory for EigenStakeHistory;

    struct Books {
        uint256 forChallengers;
        uint256 forOperators;
        uint256 forFoundation;
        /// Credited to challengers and not withdrawn yet.
        uint256 owed;
        /// Timestamp up to which operators were rewarded.
        uint32 rewardedUntil;
        /// Block of that distribution.
        uint32 stakedSince;
    }

    uint256 private constant BASIS_POINTS = 10_000;
    /// @dev EigenLayer takes no more at a time.
    uint256 private constant MAXIMUM_SUBMISSION = 1e38 - 1;
    string private constant DESCRIPTION = "Share of the market's commission";

    /// @inheritdoc ICommissionSplit
    address public immutable override escrow;
    /// @inheritdoc ICommissionSplit
    address public immutable override rewardsCoordinator;
    /// @inheritdoc ICommissionSplit
    address public immutable override serviceManager;
    /// @inheritdoc ICommissionSplit
    address public immutable override registryCoordinator;
    IOrderBook private immutable _orderBook;
    EigenStakeHistory private immutable _stakes;
    EigenOperatorKeys private immutable _keys;

    uint16 private _reserveShare;
    uint16 private _operatorShare;
    uint8 private _rewardToken;
    uint256 private _rewardAmount;
    mapping(uint8 token => Books) private _books;
    mapping(address challenger => mapping(uint8 token => uint256 amount)) private _rewards;

    constructor(
        address authority,
        address escrow_,
        address rewardsCoordinator_,
        address serviceManager_,
        address registryCoordinator_
    ) AccessManaged(authority) {
        EigenRegistryCoordinator coordinator = EigenRegistryCoordinator(registryCoordinator_);
        if (!coordinator.supportsAVS(serviceManager_)) {
            revert CoordinatorOfAnotherAvs(registryCoordinator_, serviceManager_);
        }
        escrow = escrow_;
        rewardsCoordinator = rewardsCoordinator_;
        serviceManager = serviceManager_;
        registryCoordinator = registryCoordinator_;
        _orderBook = IOrderBook(IEscrow(escrow_).orderBook());
        _stakes = EigenStakeHistory(coordinator.stakeRegistry());
        _keys = EigenOperatorKeys(coordinator.blsApkRegistry());
    }

    // -------------------------------------------------------------- everybody

    /// @inheritdoc ICommissionSplit
    function collect(uint8 token) external override nonReentrant returns (uint256 amount) {
        address tokenAddress = _addressOf(token);
        Books storage books = _books[token];
        if (books.rewardedUntil == 0) _startBooks(books);

        // Interaction first: what counts is what arrived. The guard keeps the books from moving in between.
        if (IEscrow(escrow).creditOf(address(this), token) != 0) IEscrow(escrow).withdrawCredit(token, address(this));
        uint256 balance = IERC20(tokenAddress).balanceOf(address(this));
        uint256 accounted = books.forChallengers + books.forOperators + books.forFoundation + books.owed;
        if (balance <= accounted) revert NothingToCollect(token);
        amount = balance - accounted;

        // Effect
        uint256 toReserve = _part(amount, _reserveShare);
        uint256 toOperators = _part(amount, _operatorShare);
        uint256 toFoundation = amount - toReserve - toOperators;
        books.forChallengers += toReserve;
        books.forOperators += toOperators;
        books.forFoundation += toFoundation;
        emit CommissionCollected(token, toReserve, toOperators, toFoundation);
    }

    /// @inheritdoc ICommissionSplit
    function rewardOperators(uint8 token, address[][] calldata operators) external override nonReentrant {
        // Check
        uint256 quorums = EigenRegistryCoordinator(registryCoordinator).quorumCount();
        if (operators.length != quorums || quorums == 0) revert WrongQuorumCount(operators.length, quorums);
        Books storage books = _books[token];
        uint256 share = books.forOperators / quorums;
        if (share == 0) revert NothingToReward(token);
        if (share > MAXIMUM_SUBMISSION) share = MAXIMUM_SUBMISSION;
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission memory submission;
        (submission.startTimestamp, submission.duration) = _period(books.rewardedUntil);
        submission.token = _addressOf(token);
        submission.description = DESCRIPTION;

        // Effect
        uint256 since = books.stakedSince;
        books.rewardedUntil = submission.startTimestamp + submission.duration;
        books.stakedSince = uint32(block.number);
        for (uint8 quorum = 0; quorum < quorums; ++quorum) {
            uint256 amount;
            (submission.operatorRewards, amount) = _byStake(quorum, operators[quorum], share, since);
            if (amount == 0) continue;
            submission.strategiesAndMultipliers = _stakes.strategiesOf(quorum);
            books.forOperators -= amount;
            emit OperatorsRewarded(token, quorum, amount, submission.startTimestamp, submission.duration);

            // Interaction
            _submit(quorum, submission, amount);
        }
    }

    // ------------------------------------------------------------ challengers

    /// @inheritdoc ICommissionSplit
    /// @dev Moves no token: a dispute must not depend on one.
    function rewardChallenger(address challenger) external override returns (uint256 amount) {
        if (msg.sender != _orderBook.collaborator(IOrderBook.Collaborator.Disputes)) revert NotDisputes(msg.sender);
        uint8 token = _rewardToken;
        Books storage books = _books[token];
        amount = _rewardAmount < books.forChallengers ? _rewardAmount : books.forChallengers;
        if (amount == 0) return 0;
        books.forChallengers -= amount;
        books.owed += amount;
        _rewards[challenger][token] += amount;
        emit ChallengerRewarded(challenger, token, amount);
    }

    /// @inheritdoc ICommissionSplit
    function withdrawReward(uint8 token, address to) external override nonReentrant returns (uint256 amount) {
        amount = _rewards[msg.sender][token];
        _checkWithdrawal(token, to, amount);
        _rewards[msg.sender][token] = 0;
        _books[token].owed -= amount;
        emit RewardWithdrawn(msg.sender, token, to, amount);
        IERC20(_addressOf(token)).safeTransfer(to, amount);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc ICommissionSplit
    function withdrawFoundation(uint8 token, address to)
        external
        override
        restricted
        nonReentrant
        returns (uint256 amount)
    {
        amount = _books[token].forFoundation;
        _checkWithdrawal(token, to, amount);
        _books[token].forFoundation = 0;
        emit FoundationWithdrawn(token, to, amount);
        IERC20(_addressOf(token)).safeTransfer(to, amount);
    }

    /// @inheritdoc ICommissionSplit
    function setShares(uint16 reserveShare, uint16 operatorShare) external override restricted {
        uint256 total = uint256(reserveShare) + operatorShare;
        if (total > BASIS_POINTS) revert SharesTooHigh(total, BASIS_POINTS);
        (_reserveShare, _operatorShare) = (reserveShare, operatorShare);
        emit SharesSet(reserveShare, operatorShare);
    }

    /// @inheritdoc ICommissionSplit
    function setReward(uint8 token, uint256 amount) external override restricted {
        _addressOf(token);
        (_rewardToken, _rewardAmount) = (token, amount);
        emit RewardSet(token, amount);
    }

    // ------------------------------------------------------------------ views

    /// @inheritdoc ICommissionSplit
    function shares() external view override returns (uint16 reserveShare, uint16 operatorShare) {
        return (_reserveShare, _operatorShare);
    }

    /// @inheritdoc ICommissionSplit
    function reward() external view override returns (uint8 token, uint256 amount) {
        return (_rewardToken, _rewardAmount);
    }

    /// @inheritdoc ICommissionSplit
    function held(uint8 token)
        external
        view
        override
        returns (uint256 forChallengers, uint256 forOperators, uint256 forFoundation)
    {
        Books storage books = _books[token];
        return (books.forChallengers, books.forOperators, books.forFoundation);
    }

    /// @inheritdoc ICommissionSplit
    function rewardOf(address challenger, uint8 token) external view override returns (uint256) {
        return _rewards[challenger][token];
    }

    /// @inheritdoc ICommissionSplit
    function rewardedUntil(uint8 token) external view override returns (uint32) {
        return _books[token].rewardedUntil;
    }

    /// @inheritdoc ICommissionSplit
    function stakedSince(uint8 token) external view override returns (uint32) {
        return _books[token].stakedSince;
    }

    // ---------------------------------------------------------------- private

    /// @dev Operators earn from the day on which a token is first collected.
    function _startBooks(Books storage books) private {
        uint256 interval = EigenRewardsCoordinator(rewardsCoordinator).CALCULATION_INTERVAL_SECONDS();
        books.rewardedUntil = uint32(block.timestamp - block.timestamp % interval);
        books.stakedSince = uint32(block.number);
    }

    /// @dev The whole days since `until` that are past; the last of them if there are more than EigenLayer takes at a time or
    /// as far back. Its limits are read every time: EigenLayer can change them.
    function _period(uint256 until) private view returns (uint32 start, uint32 duration) {
        EigenRewardsCoordinator rewards = EigenRewardsCoordinator(rewardsCoordinator);
        uint256 interval = rewards.CALCULATION_INTERVAL_SECONDS();
        uint256 first = _roundUp(until, interval);
        uint256 oldest = _roundUp(block.timestamp - rewards.MAX_RETROACTIVE_LENGTH(), interval);
        uint256 end = (block.timestamp - 1) / interval * interval;
        uint256 longest = rewards.MAX_REWARDS_DURATION() / interval * interval;
        if (end < first + interval) revert RewardsTooEarly(first + interval + 1, block.timestamp);
        if (first < oldest) first = oldest;
        if (first + longest < end) first = end - longest;
        return (uint32(first), uint32(end - first));
    }

    /// @dev Divides a quorum's share by the smaller of the stakes at block `since` and in the last block. Rounded down:
    /// `amount` may be a little less than `share`.
    function _byStake(uint8 quorum, address[] calldata operators, uint256 share, uint256 since)
        private
        view
        returns (EigenRewardsCoordinator.OperatorReward[] memory rewards, uint256 amount)
    {
        rewards = new EigenRewardsCoordinator.OperatorReward[](operators.length);
        uint256 weights = _weigh(quorum, operators, since, rewards);
        if (weights == 0) return (rewards, 0);
        uint256 kept = 0;
        for (uint256 i = 0; i < rewards.length; ++i) {
            // Neither product overflows: shares have 127 bits, stakes 96.
            uint256 earned = share * rewards[i].amount / weights;
            // EigenLayer refuses rewards of nothing.
            if (earned == 0) continue;
            rewards[i].amount = earned;
            rewards[kept++] = rewards[i];
            amount += earned;
        }
        assembly ("memory-safe") {
            mstore(rewards, kept)
        }
    }

    /// @dev Fills in who weighs how much. All of a quorum's operators must be named: their stakes sum up to the quorum's.
    function _weigh(
        uint8 quorum,
        address[] calldata operators,
        uint256 since,
        EigenRewardsCoordinator.OperatorReward[] memory weighed
    ) private view returns (uint256 weights) {
        // As of the last block: what this very transaction did to a stake does not count.
        uint256 latest = block.number - 1;
        uint256 named = 0;
        address previous = address(0);
        for (uint256 i = 0; i < operators.length; ++i) {
            address operator = operators[i];
            if (operator <= previous) revert OperatorsNotAscending(previous, operator);
            previous = operator;
            (uint256 before, uint256 current) =
                _stakes.stakesAt(_keys.operatorToPubkeyHash(operator), quorum, since, latest);
            if (current == 0) revert NotInQuorum(operator, quorum);
            named += current;
            uint256 weight = before < current ? before : current;
            weights += weight;
            weighed[i] = EigenRewardsCoordinator.OperatorReward(operator, weight);
        }
        uint256 total = _stakes.totalAt(quorum, latest);
        if (named != total) revert OperatorsMissing(quorum, named, total);
    }

    function _submit(
        uint8 quorum,
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission memory submission,
        uint256 amount
    ) private {
        IERC20 token = IERC20(submission.token);
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory submissions =
            new EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[](1);
        submissions[0] = submission;
        uint256 balanceBefore = token.balanceOf(address(this));
        token.forceApprove(rewardsCoordinator, amount);
        EigenRewardsCoordinator(rewardsCoordinator)
            .createOperatorDirectedOperatorSetRewardsSubmission(
                EigenRewardsCoordinator.OperatorSet(serviceManager, quorum), submissions
            );
        uint256 balanceAfter = token.balanceOf(address(this));
        uint256 moved = balanceAfter < balanceBefore ? balanceBefore - balanceAfter : 0;
        if (moved != amount) revert TransferMismatch(address(token), amount, moved);
    }

    function _checkWithdrawal(uint8 token, address to, uint256 amount) private view {
        if (amount == 0) revert NothingToWithdraw(token);
        // Tokens sent here would be collected as commission.
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
    }

    function _addressOf(uint8 token) private view returns (address tokenAddress) {
        (tokenAddress,,) = IEscrow(escrow).tokenOf(token);
        if (tokenAddress == address(0)) revert UnknownToken(token);
    }

    /// @dev Rounded down, without a product that could overflow whatever a token claims to have moved.
    function _part(uint256 amount, uint256 share) private pure returns (uint256) {
        return amount / BASIS_POINTS * share + amount % BASIS_POINTS * share / BASIS_POINTS;
    }

    function _roundUp(uint256 value, uint256 step) private pure returns (uint256) {
        return (value + step - 1) / step * step;
    }
}
