// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {FeeSchedule} from "../../src/Types.sol";
import {CommissionSplit} from "../../src/avs/CommissionSplit.sol";
import {EigenRewardsCoordinator} from "../../src/avs/EigenRewards.sol";
import {Escrow} from "../../src/market/Escrow.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderId} from "../../src/market/Resources.sol";
import {Vm} from "../Vm.sol";
import {EigenLayerTest, RestakedToken} from "./EigenLayerTest.sol";

/// @dev What the tests call of EigenLayer's rewards, from its published ABI.
interface RewardsCoordinator {
    struct EarnerLeaf {
        address earner;
        bytes32 earnerTokenRoot;
    }

    struct TokenLeaf {
        address token;
        uint256 cumulativeEarnings;
    }

    struct Claim {
        uint32 rootIndex;
        uint32 earnerIndex;
        bytes earnerTreeProof;
        EarnerLeaf earnerLeaf;
        uint32[] tokenIndices;
        bytes[] tokenTreeProofs;
        TokenLeaf[] tokenLeaves;
    }

    event OperatorDirectedOperatorSetRewardsSubmissionCreated(
        address indexed caller,
        bytes32 indexed operatorDirectedRewardsSubmissionHash,
        EigenRewardsCoordinator.OperatorSet operatorSet,
        uint256 submissionNonce,
        EigenRewardsCoordinator.OperatorDirectedRewardsSubmission operatorDirectedRewardsSubmission
    );

    error InvalidPermissions();

    function CALCULATION_INTERVAL_SECONDS() external view returns (uint32);
    function MAX_REWARDS_DURATION() external view returns (uint32);
    function MAX_RETROACTIVE_LENGTH() external view returns (uint32);
    function GENESIS_REWARDS_TIMESTAMP() external view returns (uint32);
    function activationDelay() external view returns (uint32);
    function rewardsUpdater() external view returns (address);
    function submissionNonce(address avs) external view returns (uint256);
    function submitRoot(bytes32 root, uint32 rewardsCalculationEndTimestamp) external;
    function calculateEarnerLeafHash(EarnerLeaf calldata leaf) external pure returns (bytes32);
    function calculateTokenLeafHash(TokenLeaf calldata leaf) external pure returns (bytes32);
    function processClaim(Claim calldata claim, address recipient) external;
}

/// @notice Stands where the order book does, and makes leases end: the commission is credited by the real escrow.
contract CommissionMarket {
    Escrow public escrow;
    uint32 private _account;
    address public disputes;

    function start(Escrow escrow_, address disputes_) external {
        escrow = escrow_;
        disputes = disputes_;
        _account = escrow_.open(address(this));
    }

    function setDisputes(address disputes_) external {
        disputes = disputes_;
    }

    function collaborator(IOrderBook.Collaborator role) external view returns (address) {
        return role == IOrderBook.Collaborator.Disputes ? disputes : address(this);
    }

    function list(uint8 token, address tokenAddress, uint16 schedule) external {
        escrow.setToken(token, tokenAddress, true, schedule);
    }

    /// @dev A lease that streamed five times as much ends: a fifth is commission.
    function earn(uint8 token, uint256 commission) external {
        uint256 streamed = 5 * commission;
        (address tokenAddress,,) = escrow.tokenOf(token);
        RestakedToken(tokenAddress).mint(address(this), streamed);
        IERC20(tokenAddress).approve(address(escrow), streamed);
        escrow.deposit(_account, token, streamed);
        // Rates are per 36 000 seconds, which is how long it ran.
        (uint256 nonce, uint256 schedule,) = escrow.lockOrder(_account, token, address(this), streamed, 36_000);
        uint256 orderWord = streamed | (36_000 << 113) | (schedule << 238);
        escrow.closeLease(OrderId.pack(_account, token, nonce), orderWord, 36_000, false, address(0xbeef), address(0));
    }
}

/// @notice The split behind a real escrow, on EigenLayer's real rewards coordinator and registries.
abstract contract CommissionTest is EigenLayerTest {
    uint8 internal constant SPON = 1;
    uint8 internal constant OTHER = 2;
    uint256 internal constant INTERVAL = 86_400;

    CommissionMarket internal market;
    Escrow internal escrow;
    CommissionSplit internal split;
    RestakedToken internal spon;
    RewardsCoordinator internal rewards;
    address internal disputes;

    function deploySplit(uint8 quorumCount) internal {
        deployEigenLayer(quorumCount);
        disputes = makeAddress("disputes");
        market = new CommissionMarket();
        escrow = new Escrow(address(accessManager), address(market), address(this), address(0));
        escrow.addFeeSchedule(FeeSchedule(2_000, 0, 0, 0, 0), 0);
        market.start(escrow, disputes);
        spon = new RestakedToken();
        market.list(SPON, address(spon), 2);

        rewards = RewardsCoordinator(core_("rewards_coordinator"));
        split = new CommissionSplit(
            address(accessManager), address(escrow), address(rewards), address(serviceManager), address(coordinator)
        );
        escrow.setFoundation(address(split));
        split.setShares(1_000, 4_000);
        split.setReward(SPON, 100 ether);
        appoint();
    }

    function appoint() internal {
        serviceManager.setAppointee(
            address(split),
            address(rewards),
            EigenRewardsCoordinator.createOperatorDirectedOperatorSetRewardsSubmission.selector
        );
    }

    function earnAndCollect(uint8 token, uint256 commission) internal {
        market.earn(token, commission);
        split.collect(token);
    }

    /// @dev Into the next day, a second after its start: the earliest at which EigenLayer takes the day before.
    function nextDay() internal {
        vm.warp(vm.getBlockTimestamp() / INTERVAL * INTERVAL + INTERVAL + 1);
        vm.roll(vm.getBlockNumber() + 1);
    }

    /// @dev Addresses of all operators, ascending, for every one of `quorums`.
    function everybody(uint256 quorums) internal view returns (address[][] memory named) {
        address[] memory sorted = new address[](operators.length);
        for (uint256 i = 0; i < sorted.length; i++) {
            uint256 place = i;
            for (; place != 0 && sorted[place - 1] > operators[i].account; place--) {
                sorted[place] = sorted[place - 1];
            }
            sorted[place] = operators[i].account;
        }
        named = new address[][](quorums);
        for (uint256 q = 0; q < quorums; q++) {
            named[q] = sorted;
        }
    }

    /// @dev What an operator was submitted by the logs recorded, over all quorums.
    function submittedFor(address operator) internal returns (uint256 amount) {
        return amountIn(submissions(), operator);
    }

    function amountIn(EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory made, address operator)
        internal
        pure
        returns (uint256 amount)
    {
        for (uint256 i = 0; i < made.length; i++) {
            for (uint256 j = 0; j < made[i].operatorRewards.length; j++) {
                if (made[i].operatorRewards[j].operator == operator) amount += made[i].operatorRewards[j].amount;
            }
        }
    }

    /// @dev What EigenLayer logged since the last call of `vm.recordLogs`.
    function submissions() internal returns (EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[] memory made) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        made = new EigenRewardsCoordinator.OperatorDirectedRewardsSubmission[](logs.length);
        uint256 count = 0;
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].topics[0] != RewardsCoordinator.OperatorDirectedOperatorSetRewardsSubmissionCreated.selector) {
                continue;
            }
            require(logs[i].emitter == address(rewards), "submitted to somebody else");
            (
                EigenRewardsCoordinator.OperatorSet memory set,,
                EigenRewardsCoordinator.OperatorDirectedRewardsSubmission memory submission
            ) = abi.decode(
                logs[i].data,
                (
                    EigenRewardsCoordinator.OperatorSet,
                    uint256,
                    EigenRewardsCoordinator.OperatorDirectedRewardsSubmission
                )
            );
            require(set.avs == address(serviceManager), "submitted for another AVS");
            made[count++] = submission;
        }
        assembly ("memory-safe") {
            mstore(made, count)
        }
    }
}
