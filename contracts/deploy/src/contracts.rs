//! What the deployment calls beside our own interfaces.

use alloy::sol;

sol! {
    /// OpenZeppelin `AccessManager`.
    interface IAccessManager {
        function execute(address target, bytes data) external payable returns (uint32);
        function multicall(bytes[] data) external returns (bytes[]);
    }

    /// Initialisers of our upgradeable contracts.
    interface IInitialise {
        function initialize(address authority) external;
        function initialize(address authority, uint128 minimumStake, uint64 thawPeriod) external;
        function initialize(address authority, address collaborator) external;
    }

    interface IProxyAdmin {
        function upgrade(address proxy, address implementation) external;
        function upgradeAndCall(address proxy, address implementation, bytes data) external payable;
    }

    #[sol(rpc)]
    interface IStrategyFactory {
        function deployNewStrategy(address token) external returns (address);
        function deployedStrategies(address token) external view returns (address);
    }

    #[sol(rpc)]
    interface IAllocationManagerDelays {
        function DEALLOCATION_DELAY() external view returns (uint32);
    }

    #[sol(rpc)]
    interface IDelegationManagerDelays {
        function minWithdrawalDelayBlocks() external view returns (uint32);
    }

    interface IAllocationManagerSlashing {
        struct SlashingParams {
            address operator; uint32 operatorSetId; address[] strategies; uint256[] wadsToSlash; string description;
        }

        function slashOperator(address avs, SlashingParams params) external;
    }

    interface IRewardsCoordinator {
        struct OperatorSet { address avs; uint32 id; }
        struct StrategyAndMultiplier { address strategy; uint96 multiplier; }
        struct OperatorReward { address operator; uint256 amount; }
        struct OperatorDirectedRewardsSubmission {
            StrategyAndMultiplier[] strategiesAndMultipliers; address token; OperatorReward[] operatorRewards;
            uint32 startTimestamp; uint32 duration; string description;
        }

        function createOperatorDirectedOperatorSetRewardsSubmission(
            OperatorSet operatorSet, OperatorDirectedRewardsSubmission[] submissions
        ) external;
    }

    interface IRegistryCoordinator {
        struct OperatorSetParam { uint32 maxOperatorCount; uint16 kickBIPsOfOperatorStake; uint16 kickBIPsOfTotalStake; }
        struct StrategyParams { address strategy; uint96 multiplier; }

        function initialize(
            address initialOwner, address churnApprover, address ejector, uint256 initialPausedStatus, address avs
        ) external;
        function createSlashableStakeQuorum(
            OperatorSetParam operatorSetParams, uint96 minimumStake, StrategyParams[] strategyParams, uint32 lookAheadPeriod
        ) external;
    }
}
