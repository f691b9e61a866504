// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessManaged} from "@openzeppelin/contracts/access/manager/IAccessManaged.sol";

import {EigenAllocationManager} from "../../src/avs/EigenLayer.sol";
import {IMatchingServiceManager} from "../../src/avs/IMatchingServiceManager.sol";
import {AllocationManager, PermissionController, RegistryCoordinator} from "./EigenLayer.sol";
import {EigenLayerTest} from "./EigenLayerTest.sol";

/// @dev What EigenLayer's real contracts think of our AVS account.
contract MatchingServiceManagerTest is EigenLayerTest {
    function setUp() public {
        deployEigenLayer(2);
        addOperator(uint256(keccak256("one")), 100e18);
        addOperator(uint256(keccak256("two")), 200e18);
    }

    function test_the_avs_is_wired() public view {
        assertEq(allocationManager.getAVSRegistrar(address(serviceManager)), address(coordinator), "registrar");
        for (uint32 set = 0; set < 2; set++) {
            assertTrue(
                allocationManager.isOperatorSet(AllocationManager.OperatorSet(address(serviceManager), set)),
                "operator set"
            );
        }
        assertTrue(_mayCall(address(coordinator), EigenAllocationManager.createOperatorSets.selector), "create");
        assertTrue(
            _mayCall(address(coordinator), EigenAllocationManager.deregisterFromOperatorSets.selector), "deregister"
        );
        assertFalse(_mayCall(address(coordinator), EigenAllocationManager.setAVSRegistrar.selector), "nothing else");
    }

    /// @dev Needs the coordinator's permission to remove operators: without it this reverts for everybody.
    function test_an_operator_can_be_ejected() public {
        coordinator.ejectOperator(operators[0].account, hex"0001");
        uint32 block_ = uint32(vm.getBlockNumber());
        vm.roll(block_ + 1);
        uint256[] memory members = new uint256[](2);
        (members[0], members[1]) = (2, 2);
        assertEq(prove(keccak256("x"), block_, 2, members).nonSignerPubkeys.length, 0, "one member is left");
    }

    function test_permissions_can_be_given_and_taken() public {
        address slasher = makeAddress("slasher");
        bytes4 selector = EigenAllocationManager.slashOperator.selector;
        serviceManager.setAppointee(slasher, address(allocationManager), selector);
        assertTrue(_mayCall(slasher, selector), "given");
        serviceManager.removeAppointee(slasher, address(allocationManager), selector);
        assertFalse(_mayCall(slasher, selector), "taken");
    }

    function test_only_governance_acts_for_the_avs() public {
        address stranger = makeAddress("stranger");
        bytes memory refusal = abi.encodeWithSelector(IAccessManaged.AccessManagedUnauthorized.selector, stranger);
        vm.startPrank(stranger);
        vm.expectRevert(refusal);
        serviceManager.connect(address(coordinator), "");
        vm.expectRevert(refusal);
        serviceManager.updateMetadata("");
        vm.expectRevert(refusal);
        serviceManager.setAppointee(stranger, stranger, 0);
        vm.expectRevert(refusal);
        serviceManager.removeAppointee(stranger, stranger, 0);
        vm.expectRevert(refusal);
        serviceManager.upgradeToAndCall(stranger, "");
        vm.stopPrank();
        vm.expectRevert(bytes4(keccak256("InvalidInitialization()")));
        serviceManager.initialize(address(this));
    }

    function test_refuses_the_registrar_of_another_avs() public {
        RegistryCoordinator own = coordinator;
        deployEigenLayer(0);
        address other = address(coordinator);
        assertTrue(other != address(own), "two deployments");
        vm.expectRevert(abi.encodeWithSelector(IMatchingServiceManager.RegistrarOfAnotherAvs.selector, address(own)));
        serviceManager.connect(address(own), "https://example.org/avs.json");
        serviceManager.updateMetadata("https://example.org/other.json");
    }

    function _mayCall(address caller, bytes4 selector) private view returns (bool) {
        return PermissionController(core_("permission_controller"))
            .canCall(address(serviceManager), caller, address(allocationManager), selector);
    }
}
