// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {
    CloseRequest,
    FeeSchedule,
    LeaseResources,
    OrderRequest,
    OrderState,
    OrderTerms,
    SpendingRight
} from "../../src/Types.sol";
import {MarketTest} from "./MarketTest.sol";
import {SignedRequests} from "./SignedRequests.sol";
import {TermsHash} from "./TermsHash.sol";

/// @notice A wallet that is a contract: it signs what its key has signed, and can change its mind.
contract ContractWallet {
    address public key;

    constructor(address key_) {
        key = key_;
    }

    function setKey(address key_) external {
        key = key_;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature) external view returns (bytes4) {
        (bytes32 r, bytes32 s, uint8 v) = (bytes32(signature[:32]), bytes32(signature[32:64]), uint8(signature[64]));
        return ecrecover(digest, v, r, s) == key ? bytes4(0x1626ba7e) : bytes4(0xffffffff);
    }
}

/// @notice Orders and closes that somebody else brings in. Digests are built from the text of EIP-712 ({SignedRequests}), not
/// asked of the contracts.
contract SignedTest is MarketTest {
    uint96 private constant RATE = 90e18;

    uint256 private _key;
    address private _signer;
    address private _relayer = makeAddress("relayer");
    uint32 private _signers;
    address private _owner;
    uint32 private _provider;
    uint256 private _deadline;

    function setUp() public override {
        super.setUp();
        (_owner, _provider) = _addProvider("provider");
        _key = vm.createWallet("signer").privateKey;
        _signer = vm.addr(_key);
        _signers = escrow.open(_signer);
        _deposit(_signers, PLAIN_TOKEN, 1_000e18);
        _deadline = block.timestamp + 1_000;
    }

    // ------------------------------------------------------------------ orders

    function test_createOrderFor_isTheSignersOrder() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        uint64 expected = (uint64(_signers) << 32) | (uint64(PLAIN_TOKEN) << 24) | 1;
        vm.expectEmit(address(book));
        emit IOrderBook.OrderCreated(expected, uint32(block.number + 3), PLAIN_SCHEDULE, request.terms);
        vm.prank(_relayer);
        uint64 orderId = leases.createOrderFor(request, signature);
        assertEq(orderId, expected, "order id");
        assertState(orderId, OrderState.Open);
        assertEq(book.termsHash(orderId), TermsHash.whole(request.terms), "terms");
        uint256 lock = escrow.lockFor(100e18, 3_600, PLAIN_SCHEDULE);
        assertBalances(_signers, PLAIN_TOKEN, 1_000e18 - lock, lock);
        assertEq(book.nonces(_signer), 1, "nonce");
    }

    /// @dev Every field of the request and of its terms is under the signature.
    function test_createOrderFor_withAnythingAltered() public {
        bytes memory signature = _sign(_key, _digest(_request()));
        uint32 other = escrow.open(_signer);
        _deposit(other, PLAIN_TOKEN, 1_000e18);
        _deposit(_signers, SPON_TOKEN, 1_000e18);
        for (uint256 field = 0; field < 13; ++field) {
            _refused(_altered(field, other), signature, ILeases.InvalidSignature.selector);
        }
        OrderRequest memory request = _request();
        request.nonce = 1;
        _refused(request, signature, ILeases.WrongNonce.selector);
        request = _request();
        request.signer = user;
        _refused(request, signature, ILeases.InvalidSignature.selector);
        vm.prank(_relayer);
        leases.createOrderFor(_request(), signature);
    }

    function _altered(uint256 field, uint32 other) private view returns (OrderRequest memory request) {
        request = _request();
        if (field == 0) request.account = other;
        if (field == 1) request.token = SPON_TOKEN;
        if (field == 2) request.bidWindow = 4;
        if (field == 3) request.deadline += 1;
        if (field == 4) request.terms.resources += 1;
        if (field == 5) request.terms.requirements |= 1;
        if (field == 6) request.terms.regions -= 1;
        if (field == 7) request.terms.manifestHash = keccak256("another");
        if (field == 8) request.terms.maximumRate -= 1;
        if (field == 9) request.terms.duration -= 1;
        if (field == 10) request.terms.wantedSuppliers[0] = 2;
        if (field == 11) (request.terms.excludedSuppliers = new uint32[](1))[0] = 8;
        if (field == 12) request.feeSchedule = PLAIN_SCHEDULE + 2;
    }

    /// @dev Fees that rose since are not what was signed: the order does not come in under them.
    function test_createOrderFor_underOtherFees() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        uint16 dearer = escrow.addFeeSchedule(FeeSchedule(2_000, 200, 200, 1_000, 900e18), 2_000);
        tokens.setFeeSchedule(PLAIN_TOKEN, dearer);
        vm.expectRevert(
            abi.encodeWithSelector(ILeases.OtherFeeSchedule.selector, PLAIN_SCHEDULE, dearer), address(book)
        );
        leases.createOrderFor(request, signature);
        tokens.setFeeSchedule(PLAIN_TOKEN, PLAIN_SCHEDULE);
        leases.createOrderFor(request, signature);
    }

    function test_createOrderFor_replayed() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        leases.createOrderFor(request, signature);
        vm.expectRevert(abi.encodeWithSelector(ILeases.WrongNonce.selector, _signer, 0, 1), address(book));
        leases.createOrderFor(request, signature);
        // In its turn again, it is still not what the signer signed.
        request.nonce = 1;
        _refused(request, signature, ILeases.InvalidSignature.selector);
        request.nonce = 2;
        _refused(request, _sign(_key, _digest(request)), ILeases.WrongNonce.selector);
    }

    function test_createOrderFor_untilItsDeadline() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        vm.warp(_deadline + 1);
        vm.expectRevert(
            abi.encodeWithSelector(ILeases.SignatureExpired.selector, _deadline, _deadline + 1), address(book)
        );
        leases.createOrderFor(request, signature);
        vm.warp(_deadline);
        leases.createOrderFor(request, signature);
    }

    function test_createOrderFor_onAnotherChain() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        _refused(request, signature, ILeases.InvalidSignature.selector);
        vm.chainId(chain);
        leases.createOrderFor(request, signature);
    }

    /// @dev The domain names the order book: not the code behind it, and no other market.
    function test_createOrderFor_forAnotherContract() public {
        OrderRequest memory request = _request();
        address[3] memory others = [book.leases(), address(escrow), makeAddress("another market")];
        for (uint256 index = 0; index < others.length; ++index) {
            bytes32 digest = _digestFor(others[index], SignedRequests.structHash(request));
            _refused(request, _sign(_key, digest), ILeases.InvalidSignature.selector);
        }
        bytes32 unframed = SignedRequests.structHash(request);
        _refused(request, _sign(_key, unframed), ILeases.InvalidSignature.selector);
    }

    function test_createOrderFor_malformedSignatures() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        _refused(request, "", ILeases.InvalidSignature.selector);
        _refused(request, abi.encodePacked(signature, uint8(0)), ILeases.InvalidSignature.selector);
        _refused(request, new bytes(65), ILeases.InvalidSignature.selector);
        // The other root of the curve.
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(_key, _digest(request));
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory twin = abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        _refused(request, twin, ILeases.InvalidSignature.selector);
        request.signer = address(0);
        _refused(request, new bytes(65), ILeases.InvalidSignature.selector);
    }

    /// @dev A good signature of who has no right is no right.
    function test_createOrderFor_ofAnotherAccount() public {
        OrderRequest memory request = _request();
        request.account = account;
        bytes memory signature = _sign(_key, _digest(request));
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.NotAccountOwner.selector, account, _signer, user), address(escrow)
        );
        leases.createOrderFor(request, signature);
        assertEq(book.nonces(_signer), 0, "nothing happened");
    }

    function test_createOrderFor_bySpenders() public {
        uint256 lock = escrow.lockFor(100e18, 3_600, PLAIN_SCHEDULE);
        vm.prank(user);
        escrow.setSpendingRight(account, _signer, PLAIN_TOKEN, SpendingRight(uint112(lock), uint40(_deadline), false));
        OrderRequest memory request = _request();
        request.account = account;
        leases.createOrderFor(request, _sign(_key, _digest(request)));
        assertEq(escrow.spendingRight(account, _signer, PLAIN_TOKEN).limit, 0, "limit");
        request.nonce = 1;
        bytes memory signature = _sign(_key, _digest(request));
        vm.expectRevert(
            abi.encodeWithSelector(IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, _signer, 0, lock)
        );
        leases.createOrderFor(request, signature);
    }

    function test_createOrderFor_byAContract() public {
        ContractWallet wallet = new ContractWallet(_signer);
        uint32 owned = escrow.open(address(wallet));
        _deposit(owned, PLAIN_TOKEN, 1_000e18);
        OrderRequest memory request = _request();
        (request.signer, request.account) = (address(wallet), owned);
        bytes memory signature = _sign(_key, _digest(request));
        wallet.setKey(user);
        _refused(request, signature, ILeases.InvalidSignature.selector);
        wallet.setKey(_signer);
        assertState(leases.createOrderFor(request, signature), OrderState.Open);
        assertEq(book.nonces(address(wallet)), 1, "the wallet's nonce");
        assertEq(book.nonces(_signer), 0, "not the key's");
    }

    // ------------------------------------------------------------------ closes

    function test_closeFor_closesALease() public {
        (uint64 orderId, OrderTerms memory terms) = _signedLease();
        vm.warp(block.timestamp + 700);
        CloseRequest memory request = CloseRequest(_signer, orderId, 1, _deadline);
        bytes memory signature = _sign(_key, _digest(request));
        vm.expectEmit(address(book));
        emit ILeases.LeaseClosed(orderId, OrderState.ClosedByUser, 700);
        vm.prank(_relayer);
        leases.closeFor(request, _leaseResources(terms), signature);
        assertState(orderId, OrderState.ClosedByUser);
        vm.expectRevert(abi.encodeWithSelector(ILeases.WrongNonce.selector, _signer, 1, 2), address(book));
        leases.closeFor(request, _leaseResources(terms), signature);
    }

    function test_closeFor_cancelsAnOrder() public {
        OrderRequest memory order = _request();
        uint64 orderId = leases.createOrderFor(order, _sign(_key, _digest(order)));
        CloseRequest memory request = CloseRequest(_signer, orderId, 1, _deadline);
        bytes memory signature = _sign(_key, _digest(request));
        vm.expectEmit(address(book));
        emit IOrderBook.OrderCancelled(orderId);
        leases.closeFor(request, LeaseResources(0, 0), signature);
        assertBalances(_signers, PLAIN_TOKEN, 1_000e18, 0);
    }

    /// @dev Not in the middle of a match either.
    function test_closeFor_waitsForTheAnswerLikeACancel() public {
        OrderRequest memory order = _request();
        uint64 orderId = leases.createOrderFor(order, _sign(_key, _digest(order)));
        uint32 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock);
        CloseRequest memory request = CloseRequest(_signer, orderId, 1, _deadline);
        bytes memory signature = _sign(_key, _digest(request));
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.BidWindowOver.selector, orderId, closeBlock, closeBlock), address(book)
        );
        leases.closeFor(request, LeaseResources(0, 0), signature);
    }

    function test_closeFor_withAnythingAltered() public {
        (uint64 orderId, OrderTerms memory terms) = _signedLease();
        CloseRequest memory request = CloseRequest(_signer, orderId, 1, _deadline);
        bytes memory signature = _sign(_key, _digest(request));
        request.orderId = orderId + 1;
        _closeRefused(request, terms, signature, ILeases.InvalidSignature.selector);
        request = CloseRequest(user, orderId, 0, _deadline);
        _closeRefused(request, terms, signature, ILeases.InvalidSignature.selector);
        request = CloseRequest(_signer, orderId, 2, _deadline);
        _closeRefused(request, terms, signature, ILeases.WrongNonce.selector);
        request = CloseRequest(_signer, orderId, 1, _deadline + 1);
        _closeRefused(request, terms, signature, ILeases.InvalidSignature.selector);
        request.deadline = block.timestamp - 1;
        _closeRefused(request, terms, signature, ILeases.SignatureExpired.selector);
        request.deadline = _deadline;
        uint256 chain = block.chainid;
        vm.chainId(chain + 1);
        _closeRefused(request, terms, signature, ILeases.InvalidSignature.selector);
        vm.chainId(chain);
        // An order's signature is none for a close.
        OrderRequest memory order = _request();
        order.nonce = 1;
        _closeRefused(request, terms, _sign(_key, _digest(order)), ILeases.InvalidSignature.selector);
        terms.resources += 1;
        _closeRefused(request, terms, signature, ILeases.WrongResources.selector);
        terms.resources -= 1;
        leases.closeFor(request, _leaseResources(terms), signature);
        assertState(orderId, OrderState.ClosedByUser);
    }

    function test_closeFor_ofOthersLeases() public {
        uint64 orderId = _lease(_owner, _provider, RATE);
        CloseRequest memory request = CloseRequest(_signer, orderId, 0, _deadline);
        bytes memory signature = _sign(_key, _digest(request));
        vm.expectRevert(
            abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, orderId, _signer, user), address(book)
        );
        leases.closeFor(request, _leaseResources(_terms()), signature);
        // Unless it may close.
        vm.prank(user);
        escrow.setSpendingRight(account, _signer, PLAIN_TOKEN, SpendingRight(0, uint40(_deadline), true));
        leases.closeFor(request, _leaseResources(_terms()), signature);
        assertState(orderId, OrderState.ClosedByUser);
    }

    function test_skipNonce_endsASignature() public {
        OrderRequest memory request = _request();
        bytes memory signature = _sign(_key, _digest(request));
        vm.prank(_signer);
        assertEq(leases.skipNonce(), 0, "skipped");
        assertEq(book.nonces(_signer), 1, "next");
        _refused(request, signature, ILeases.WrongNonce.selector);
        assertEq(book.nonces(_relayer), 0, "nobody else's");
    }

    // ----------------------------------------------------------------- private

    function _request() private view returns (OrderRequest memory) {
        OrderTerms memory terms = _terms();
        terms.wantedSuppliers = new uint32[](2);
        (terms.wantedSuppliers[0], terms.wantedSuppliers[1]) = (1, 5);
        terms.excludedSuppliers = new uint32[](1);
        terms.excludedSuppliers[0] = 9;
        return OrderRequest(_signer, _signers, PLAIN_TOKEN, 3, PLAIN_SCHEDULE, terms, 0, _deadline);
    }

    function _signedLease() private returns (uint64 orderId, OrderTerms memory terms) {
        OrderRequest memory request = _request();
        terms = request.terms;
        orderId = leases.createOrderFor(request, _sign(_key, _digest(request)));
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(_provider, RATE)));
    }

    function _digest(OrderRequest memory request) private view returns (bytes32) {
        return _digestFor(address(book), SignedRequests.structHash(request));
    }

    function _digest(CloseRequest memory request) private view returns (bytes32) {
        return _digestFor(address(book), SignedRequests.structHash(request));
    }

    function _digestFor(address verifier, bytes32 structHash) private view returns (bytes32) {
        return SignedRequests.digest(structHash, verifier);
    }

    function _sign(uint256 key, bytes32 digest) private pure returns (bytes memory) {
        return SignedRequests.sign(vm, key, digest);
    }

    function _refused(OrderRequest memory request, bytes memory signature, bytes4 reason) private {
        uint256 nonce = book.nonces(request.signer);
        vm.expectPartialRevert(reason);
        vm.prank(_relayer);
        leases.createOrderFor(request, signature);
        assertEq(book.nonces(request.signer), nonce, "nothing is used up");
    }

    function _closeRefused(CloseRequest memory request, OrderTerms memory terms, bytes memory signature, bytes4 reason)
        private
    {
        vm.expectPartialRevert(reason);
        vm.prank(_relayer);
        leases.closeFor(request, _leaseResources(terms), signature);
    }
}
