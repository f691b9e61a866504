// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @title The AVS as EigenLayer knows it
/// @notice This contract's address is the AVS account: operator sets, their registrar and permissions hang on it. It holds
/// no funds and decides nothing about matching.
interface IMatchingServiceManager {
    /// @notice `appointee` may call this function of `target` for the AVS (EigenLayer's `PermissionController`).
    event AppointeeSet(address indexed appointee, address indexed target, bytes4 indexed selector);
    /// @notice `appointee` may not call it for the AVS any more.
    event AppointeeRemoved(address indexed appointee, address indexed target, bytes4 indexed selector);
    /// @notice EigenLayer asks this contract who may join operator sets from now on.
    event RegistrarSet(address indexed registryCoordinator);

    /// @dev The coordinator does not say that it supports this AVS.
    error RegistrarOfAnotherAvs(address registryCoordinator);

    /// @notice Publishes the metadata, makes the registry coordinator the registrar, and lets it create operator sets and
    /// remove operators from them: without the latter a refresh that finds somebody below the minimum stake reverts for
    /// everybody. The coordinator must name this contract as its AVS already.
    function connect(address registryCoordinator, string calldata metadataUri) external;
    /// @notice Points to another metadata document.
    function updateMetadata(string calldata metadataUri) external;
    /// @notice Lets `appointee` call one function of an EigenLayer contract for this AVS.
    function setAppointee(address appointee, address target, bytes4 selector) external;
    /// @notice Takes {setAppointee} back.
    function removeAppointee(address appointee, address target, bytes4 selector) external;

    /// @notice EigenLayer's, where the AVS is registered. Fixed in the code.
    function allocationManager() external view returns (address);
    /// @notice EigenLayer's, which keeps the appointees. Fixed in the code.
    function permissionController() external view returns (address);
}
