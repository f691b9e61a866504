// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManaged} from "@openzeppelin/contracts/access/manager/AccessManaged.sol";

import {Bn254Signature} from "./Bn254Signature.sol";
import {EigenAllocationManager, EigenBlsApkRegistry, EigenRegistryCoordinator} from "./EigenLayer.sol";
import {IAllocationSlasher} from "./IAllocationSlasher.sol";
import {IBlsQuorumVerifier} from "./IBlsQuorumVerifier.sol";
import {IMatchingDisputes} from "./IMatchingDisputes.sol";
import {IMatchingServiceManager} from "./IMatchingServiceManager.sol";
import {ISlasher} from "./ISlasher.sol";

/// @title Slashes operator sets of EigenLayer
/// @dev What is slashed waits in the StrategyManager until anyone calls its `burnShares`: nothing here depends on it.
contract AllocationSlasher is IAllocationSlasher, AccessManaged {
    /// @dev Quorums of the verifier, and of each the strategies that back it, ascending as the AllocationManager wants them.
    struct Quorums {
        uint8[] numbers;
        address[][] strategies;
    }

    uint64 private constant WHOLE = 1e18;
    uint64 private constant MAXIMUM_FRACTION = WHOLE / 2;

    /// @inheritdoc IAllocationSlasher
    address public immutable disputes;
    /// @inheritdoc IAllocationSlasher
    address public immutable serviceManager;
    /// @inheritdoc IAllocationSlasher
    address public immutable verifier;
    EigenAllocationManager private immutable _allocationManager;
    EigenRegistryCoordinator private immutable _coordinator;
    EigenBlsApkRegistry private immutable _keys;

    /// @inheritdoc IAllocationSlasher
    uint64 public slashFraction;

    constructor(
        address authority,
        IMatchingDisputes disputes_,
        IMatchingServiceManager service,
        IBlsQuorumVerifier quorumVerifier,
        uint64 fraction
    ) AccessManaged(authority) {
        if (address(disputes_).code.length == 0) {
            revert NotAContract(address(disputes_));
        }
        disputes = address(disputes_);
        serviceManager = address(service);
        verifier = address(quorumVerifier);
        _allocationManager = EigenAllocationManager(service.allocationManager());
        _coordinator = EigenRegistryCoordinator(quorumVerifier.registryCoordinator());
        _keys = EigenBlsApkRegistry(quorumVerifier.blsApkRegistry());
        _setSlashFraction(fraction);
    }

    // ---------------------------------------------------------------- disputes

    /// @inheritdoc ISlasher
    function slash(
        bytes32 verdict,
        uint32 blockReference,
        bytes32 signatories,
        address[] calldata operators,
        bytes calldata evidence
    ) external {
        _checkCaller();
        bytes32[] memory absent = _absent(blockReference, signatories, evidence);
        Quorums memory quorums = _quorums();
        for (uint256 i = 0; i < operators.length; ++i) {
            uint256 memberships = _membershipsOfSigner(operators[i], blockReference, absent);
            _slash(verdict, operators[i], memberships, quorums, "wrong match");
        }
        // Until then the registry counts what was just taken.
        _coordinator.updateOperators(operators);
    }

    /// @inheritdoc ISlasher
    function slashEquivocator(
        bytes32 verdict,
        uint32 blockReference,
        bytes32[2] calldata digests,
        address operator,
        bytes calldata evidence
    ) external {
        _checkCaller();
        EquivocationEvidence memory proof = abi.decode(evidence, (EquivocationEvidence));
        (IBlsQuorumVerifier.G1Point memory key, bytes32 operatorId) = _keyOf(operator);
        for (uint256 i = 0; i < 2; ++i) {
            if (!Bn254Signature.isValid(digests[i], key, proof.key, proof.signatures[i])) {
                revert NotSignedBy(operator, digests[i]);
            }
        }
        uint256 memberships = _memberships(operator, operatorId, blockReference);
        _slash(verdict, operator, memberships, _quorums(), "equivocation");
        address[] memory one = new address[](1);
        one[0] = operator;
        _coordinator.updateOperators(one);
    }

    // ------------------------------------------------------------- governance

    /// @inheritdoc IAllocationSlasher
    function setSlashFraction(uint64 fraction) external restricted {
        _setSlashFraction(fraction);
    }

    // ---------------------------------------------------------------- private

    function _setSlashFraction(uint64 fraction) private {
        if (fraction == 0 || fraction > MAXIMUM_FRACTION) revert SlashFractionOutOfRange(fraction, MAXIMUM_FRACTION);
        slashFraction = fraction;
        emit SlashFractionSet(fraction);
    }

    function _checkCaller() private view {
        if (msg.sender != disputes) revert NotDisputes(msg.sender);
    }

    /// @dev Ids of those who did not sign, which the verifier committed to.
    function _absent(uint32 blockReference, bytes32 signatories, bytes calldata evidence)
        private
        pure
        returns (bytes32[] memory ids)
    {
        ids = abi.decode(evidence, (bytes32[]));
        bytes32 given = keccak256(abi.encodePacked(blockReference, ids));
        if (given != signatories) revert WrongSignatories(given, signatories);
    }

    /// @dev Who was in a quorum and is not among the absent has signed.
    function _membershipsOfSigner(address operator, uint32 blockReference, bytes32[] memory absent)
        private
        view
        returns (uint256)
    {
        bytes32 operatorId = _keys.getOperatorId(operator);
        if (_contains(absent, operatorId)) revert NotSignatory(operator);
        return _memberships(operator, operatorId, blockReference);
    }

    /// @dev Whether an id is in an ascending list. The quorum verifier refuses lists that do not ascend, so the one that
    /// opens its commitment does.
    function _contains(bytes32[] memory ids, bytes32 id) private pure returns (bool) {
        uint256 low = 0;
        uint256 high = ids.length;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            if (ids[middle] == id) return true;
            if (ids[middle] < id) low = middle + 1;
            else high = middle;
        }
        return false;
    }

    function _keyOf(address operator) private view returns (IBlsQuorumVerifier.G1Point memory key, bytes32 operatorId) {
        operatorId = _keys.getOperatorId(operator);
        // The registry reverts for who has no key, without saying who.
        if (operatorId == 0) revert NotSignatory(operator);
        (key,) = _keys.getRegisteredPubkey(operator);
    }

    /// @dev Bitmap of the quorums that the operator was in at the reference block. The coordinator reverts for who was not
    /// yet known then.
    function _memberships(address operator, bytes32 operatorId, uint32 blockReference) private view returns (uint256) {
        bytes32[] memory one = new bytes32[](1);
        one[0] = operatorId;
        try _coordinator.getQuorumBitmapIndicesAtBlockNumber(blockReference, one) returns (uint32[] memory indices) {
            return _coordinator.getQuorumBitmapAtBlockNumberByIndex(operatorId, blockReference, indices[0]);
        } catch {
            revert NotSignatory(operator);
        }
    }

    function _quorums() private view returns (Quorums memory quorums) {
        (quorums.numbers,) = IBlsQuorumVerifier(verifier).quorums();
        quorums.strategies = new address[][](quorums.numbers.length);
        for (uint256 i = 0; i < quorums.numbers.length; ++i) {
            quorums.strategies[i] = _sort(
                _allocationManager.getStrategiesInOperatorSet(
                    EigenAllocationManager.OperatorSet(serviceManager, quorums.numbers[i])
                )
            );
        }
    }

    /// @dev In place; there are a few.
    function _sort(address[] memory list) private pure returns (address[] memory) {
        for (uint256 i = 1; i < list.length; ++i) {
            address moved = list[i];
            uint256 place = i;
            for (; place != 0 && list[place - 1] > moved; --place) {
                list[place] = list[place - 1];
            }
            list[place] = moved;
        }
        return list;
    }

    /// @dev Every quorum of the verifier that the operator was in.
    function _slash(
        bytes32 verdict,
        address operator,
        uint256 memberships,
        Quorums memory quorums,
        string memory description
    ) private {
        bool member = false;
        bool cut = false;
        for (uint256 i = 0; i < quorums.numbers.length; ++i) {
            if (memberships >> quorums.numbers[i] & 1 == 0) continue;
            member = true;
            if (_slashQuorum(verdict, operator, quorums.numbers[i], quorums.strategies[i], description)) cut = true;
        }
        if (!member) revert NotSignatory(operator);
        if (!cut) revert NothingCut(operator);
    }

    /// @dev Returns whether something was cut: the AllocationManager takes a slash of what is not allocated any more, and cuts
    /// nothing.
    function _slashQuorum(
        bytes32 verdict,
        address operator,
        uint8 quorum,
        address[] memory strategies,
        string memory description
    ) private returns (bool) {
        // Who left long ago is not slashable in this quorum. Asked rather than caught: a call can be made to fail by giving it too
        // little gas.
        if (!_allocationManager.isOperatorSlashable(
                operator, EigenAllocationManager.OperatorSet(serviceManager, quorum)
            )) {
            return false;
        }
        uint64[] memory before = _allocationManager.getMaxMagnitudes(operator, strategies);
        uint256[] memory fractions = new uint256[](strategies.length);
        for (uint256 i = 0; i < strategies.length; ++i) {
            fractions[i] = slashFraction;
        }
        _allocationManager.slashOperator(
            serviceManager, EigenAllocationManager.SlashingParams(operator, quorum, strategies, fractions, description)
        );
        uint256 cut = _largestCut(before, _allocationManager.getMaxMagnitudes(operator, strategies));
        if (cut == 0) return false;
        emit OperatorSlashed(verdict, operator, quorum, cut);
        return true;
    }

    /// @dev Share of the operator's stake, of the strategy that lost most.
    function _largestCut(uint64[] memory before, uint64[] memory left) private pure returns (uint256 largest) {
        for (uint256 i = 0; i < before.length; ++i) {
            if (left[i] == before[i]) continue;
            uint256 cut = uint256(before[i] - left[i]) * WHOLE / before[i];
            if (cut > largest) largest = cut;
        }
    }
}
