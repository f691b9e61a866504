// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IEscrow} from "../../src/market/IEscrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {LeaseResources, OrderState, OrderTerms, SpendingRight} from "../../src/Types.sol";
import {UpdateTest} from "./UpdateTest.sol";

/// @notice Updates that are refused leave everything as it was: the lease, the money, the capacity, the proposal.
contract UpdateRefusalsTest is UpdateTest {
    // ----------------------------------------------------------------- propose

    function test_proposeUpdate_byStrangers() public {
        address[3] memory strangers = [_owner, address(this), makeAddress("stranger")];
        for (uint256 index = 0; index < strangers.length; ++index) {
            vm.expectRevert(
                abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, _orderId, strangers[index], user)
            );
            vm.prank(strangers[index]);
            leases.proposeUpdate(_orderId, _newTerms(), _expiry);
        }
    }

    function test_proposeUpdate_bySpenders() public {
        address spender = makeAddress("spender");
        uint256 needed = _leaseLock(160e18, 7_200);
        _grant(spender, needed - 1, _expiry);
        vm.expectRevert(
            abi.encodeWithSelector(
                IEscrow.SpendingLimitExceeded.selector, account, PLAIN_TOKEN, spender, needed - 1, needed
            )
        );
        vm.prank(spender);
        leases.proposeUpdate(_orderId, _newTerms(), _expiry);
        _grant(spender, needed, _expiry);
        vm.prank(spender);
        leases.proposeUpdate(_orderId, _newTerms(), _expiry);
        assertEq(escrow.spendingRight(account, spender, PLAIN_TOKEN).limit, 0, "its worst case is taken");
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    /// @dev An update ends the lease, and replaces what the owner has proposed: who may not close may not propose.
    function test_proposeUpdate_byASpenderWhoMayNotClose() public {
        address spender = makeAddress("spender");
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(type(uint112).max, _expiry, false));
        _propose(_newTerms());
        vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, _orderId, spender, user));
        vm.prank(spender);
        leases.proposeUpdate(_orderId, _terms(), _expiry);
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    /// @dev What a spender proposed falls with its right: at its expiry, and when the owner takes it back.
    function test_acceptUpdate_ofASpenderWhoseRightHasEnded() public {
        address spender = makeAddress("spender");
        uint40 rightEnds = uint40(_start + 500);
        _grant(spender, type(uint112).max, rightEnds);
        vm.prank(spender);
        leases.proposeUpdate(_orderId, _newTerms(), _expiry);
        bytes memory refused = abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId);
        uint256 state = vm.snapshotState();

        vm.warp(rightEnds - 1);
        assertEq(leases.updateProposal(_orderId).by, spender, "who proposed");
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
        vm.revertToState(state);

        vm.warp(rightEnds);
        assertEq(leases.updateProposal(_orderId).hash, bytes32(0), "fallen");
        _acceptRefused(_newTerms(), NEW_RATE, refused);
        vm.revertToState(state);

        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(0, 0, false));
        _acceptRefused(_newTerms(), NEW_RATE, refused);
    }

    /// @dev A lease that begins has stake behind it, however it begins.
    function test_acceptUpdate_byAProviderWithoutStake() public {
        _propose(_newTerms());
        uint256 shares = stakes.sharesOf(_provider, _owner);
        vm.prank(_owner);
        stakes.startThaw(_provider, shares);
        _acceptRefused(_newTerms(), NEW_RATE, abi.encodeWithSelector(IOrderBook.SupplierInactive.selector, _provider));
    }

    function test_proposeUpdate_refusals() public {
        OrderTerms memory terms = _newTerms();
        vm.warp(_start + 500);
        _proposalRefused(
            terms,
            uint40(_start + 500),
            abi.encodeWithSelector(ILeases.ExpiryPassed.selector, _start + 500, _start + 500)
        );
        terms.resources = _resources(0, 1, 1, 0, 0);
        _proposalRefused(terms, _expiry, abi.encodeWithSelector(IOrderBook.InvalidResources.selector, terms.resources));
        terms = _newTerms();
        terms.maximumRate = 0;
        _proposalRefused(terms, _expiry, abi.encodeWithSelector(IOrderBook.RateOutOfRange.selector, 0));
        terms = _newTerms();
        terms.duration = 1 << 29;
        _proposalRefused(terms, _expiry, abi.encodeWithSelector(IOrderBook.DurationOutOfRange.selector, 1 << 29));
        terms = _newTerms();
        terms.requirements += uint256(1) << 88;
        _proposalRefused(
            terms, _expiry, abi.encodeWithSelector(IOrderBook.WrongParamsVersion.selector, 2, PARAMS_VERSION)
        );
        uint256 over = _start + 3_600 + GRACE_WINDOW;
        vm.warp(over);
        _proposalRefused(
            _newTerms(), type(uint40).max, abi.encodeWithSelector(ILeases.LeaseOver.selector, _orderId, over, over)
        );
        _close(user, _orderId, OrderState.ClosedByUser);
        _proposalRefused(
            _newTerms(),
            type(uint40).max,
            abi.encodeWithSelector(IOrderBook.WrongState.selector, _orderId, OrderState.ClosedAtEnd)
        );
    }

    // ------------------------------------------------------------------ accept

    function test_acceptUpdate_twice() public {
        uint64 updatedId = _update();
        _acceptRefused(
            _newTerms(),
            NEW_RATE,
            abi.encodeWithSelector(IOrderBook.WrongState.selector, _orderId, OrderState.ClosedUpdated)
        );
        // And it is no proposal for the lease that came of it.
        vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, updatedId), address(book));
        vm.prank(_owner);
        leases.acceptUpdate(updatedId, _leaseResources(_newTerms()), _newTerms(), NEW_RATE);
    }

    function test_acceptUpdate_afterItsExpiry() public {
        _propose(_newTerms());
        vm.warp(_expiry);
        _acceptRefused(
            _newTerms(), NEW_RATE, abi.encodeWithSelector(ILeases.UpdateExpired.selector, _orderId, _expiry, _expiry)
        );
    }

    /// @dev Not a word of what was proposed may be another.
    function test_acceptUpdate_withAlteredTerms() public {
        _propose(_newTerms());
        for (uint256 field = 0; field < 10; ++field) {
            OrderTerms memory altered = _altered(field);
            _acceptRefused(
                altered,
                NEW_RATE,
                abi.encodeWithSelector(
                    ILeases.OtherUpdateProposed.selector, _orderId, _updateHash(altered), _updateHash(_newTerms())
                )
            );
        }
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    function _altered(uint256 field) private pure returns (OrderTerms memory terms) {
        terms = _newTerms();
        if (field == 0) terms.resources -= 1;
        if (field == 1) terms.requirements |= 1;
        if (field == 2) terms.regions -= 1;
        if (field == 3) terms.manifestHash = keccak256("another manifest");
        if (field == 4) terms.maximumRate += 1;
        if (field == 5) terms.duration -= 1;
        if (field == 6) (terms.wantedSuppliers = new uint32[](1))[0] = 1;
        if (field == 7) (terms.excludedSuppliers = new uint32[](1))[0] = 2;
        if (field == 8) terms.duration += 1;
        if (field == 9) terms = _terms();
    }

    function test_acceptUpdate_atARateThatWasNotOffered() public {
        _propose(_newTerms());
        _acceptRefused(_newTerms(), 0, abi.encodeWithSelector(IOrderBook.RateIsZero.selector, _orderId));
        _acceptRefused(
            _newTerms(),
            160e18 + 1,
            abi.encodeWithSelector(IOrderBook.RateAboveMaximum.selector, _orderId, 160e18 + 1, 160e18)
        );
    }

    function test_acceptUpdate_byOthersThanTheSupplier() public {
        (address other,) = _addProvider("other");
        _propose(_newTerms());
        address[4] memory others = [user, other, leaseSlasher, address(this)];
        for (uint256 index = 0; index < others.length; ++index) {
            vm.expectRevert(
                abi.encodeWithSelector(IOrderBook.NotSupplierOwner.selector, _orderId, _provider, others[index]),
                address(book)
            );
            vm.prank(others[index]);
            leases.acceptUpdate(_orderId, _leaseResources(_terms()), _newTerms(), NEW_RATE);
        }
    }

    function test_acceptUpdate_withOtherResourcesThanTheOldOnes() public {
        _propose(_newTerms());
        LeaseResources memory wrong = _leaseResources(_newTerms());
        bytes32 given = keccak256(abi.encodePacked(wrong.resources, wrong.restHash));
        vm.expectRevert(
            abi.encodeWithSelector(ILeases.WrongResources.selector, _orderId, given, book.termsHash(_orderId))
        );
        vm.prank(_owner);
        leases.acceptUpdate(_orderId, wrong, _newTerms(), NEW_RATE);
    }

    /// @dev What a seller proposed binds no buyer, not even once the account has come back.
    function test_acceptUpdate_afterTheAccountChangedHands() public {
        address buyer = makeAddress("buyer");
        _propose(_newTerms());
        vm.prank(user);
        escrow.transferFrom(user, buyer, account);
        bytes memory reason = abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId);
        _acceptRefused(_newTerms(), NEW_RATE, reason);
        assertEq(leases.updateProposal(_orderId).hash, 0, "none");
        vm.prank(buyer);
        escrow.transferFrom(buyer, user, account);
        _acceptRefused(_newTerms(), NEW_RATE, reason);
        vm.expectRevert(reason, address(book));
        vm.prank(user);
        leases.rejectUpdate(_orderId, _updateHash(_newTerms()));
    }

    function test_acceptUpdate_withoutAProposal() public {
        _acceptRefused(_newTerms(), NEW_RATE, abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId));
    }

    /// @dev No room even in the place of the old lease: it runs on, the proposal stands, and later there may be room.
    function test_acceptUpdate_withoutCapacity() public {
        bytes memory noCapacity = abi.encodeWithSelector(ILeases.NoCapacity.selector, _orderId, _provider);
        OrderTerms memory terms = _newTerms();
        terms.resources = _resources(301, 128, 8, 0, 0);
        _propose(terms);
        _acceptRefused(terms, NEW_RATE, noCapacity);
        vm.prank(_owner);
        book.setCapacity(_capacity(301, 1_024, 64));
        assertState(_accept(terms, NEW_RATE), OrderState.Leased);
    }

    function test_acceptUpdate_withoutGpus() public {
        vm.prank(_owner);
        book.setCapacity(_withGpus(_withGpus(_capacity(300, 1_024, 64), 0, 7, 4), 1, 9, 4));
        OrderTerms memory terms = _newTerms();
        terms.resources = _resources(200, 128, 8, 5, (1 << 7) | (1 << 9));
        _propose(terms);
        _acceptRefused(terms, NEW_RATE, abi.encodeWithSelector(ILeases.NoCapacity.selector, _orderId, _provider));
        terms.resources = _resources(200, 128, 8, 1, 1 << 8);
        _propose(terms);
        _acceptRefused(terms, NEW_RATE, abi.encodeWithSelector(ILeases.NoCapacity.selector, _orderId, _provider));
    }

    /// @dev Who is suspended takes no lease, and what it has runs on.
    function test_acceptUpdate_whileSuspended() public {
        _propose(_newTerms());
        registry.suspend(_provider);
        _acceptRefused(_newTerms(), NEW_RATE, abi.encodeWithSelector(ILeases.NoCapacity.selector, _orderId, _provider));
        registry.reinstate(_provider);
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    function test_acceptUpdate_withoutMoney() public {
        _propose(_newTerms());
        (uint256 unlocked, uint256 locked,) = escrow.balances(account, PLAIN_TOKEN);
        uint256 needed = _leaseLock(NEW_RATE, 7_200);
        vm.prank(user);
        escrow.withdraw(account, PLAIN_TOKEN, unlocked + locked - needed + 1, user);
        _acceptRefused(
            _newTerms(),
            NEW_RATE,
            abi.encodeWithSelector(IEscrow.InsufficientBalance.selector, account, PLAIN_TOKEN, needed - 1, needed)
        );
        _deposit(account, PLAIN_TOKEN, 1);
        _accept(_newTerms(), NEW_RATE);
        assertBalances(account, PLAIN_TOKEN, 0, needed);
    }

    /// @dev Delisting blocks new orders only: a live lease is still updated.
    function test_acceptUpdate_inADelistedToken() public {
        tokens.setStatus(PLAIN_TOKEN, IPaymentTokens.Status.Delisted);
        vm.expectRevert(abi.encodeWithSelector(IEscrow.TokenNotEnabled.selector, PLAIN_TOKEN), address(escrow));
        _createOrder();
        _propose(_newTerms());
        assertState(_accept(_newTerms(), NEW_RATE), OrderState.Leased);
    }

    function test_acceptUpdate_onceTheLeaseIsOver() public {
        _expiry = type(uint40).max;
        _propose(_newTerms());
        uint256 over = _start + 3_600 + GRACE_WINDOW;
        vm.warp(over);
        _acceptRefused(_newTerms(), NEW_RATE, abi.encodeWithSelector(ILeases.LeaseOver.selector, _orderId, over, over));
    }

    // ------------------------------------------------------------------- reject

    function test_rejectUpdate_refusals() public {
        vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, _orderId), address(book));
        vm.prank(user);
        leases.rejectUpdate(_orderId, _updateHash(_newTerms()));
        _propose(_newTerms());
        address spender = makeAddress("spender");
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(1e18, _expiry, false));
        address[2] memory others = [spender, address(this)];
        for (uint256 index = 0; index < others.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IOrderBook.NotAccountOwner.selector, _orderId, others[index], user));
            vm.prank(others[index]);
            leases.rejectUpdate(_orderId, _updateHash(_newTerms()));
        }
        assertEq(leases.updateProposal(_orderId).hash, _updateHash(_newTerms()), "it stands");
    }

    /// @dev A refusal that was sent before another proposal came does not reach that one.
    function test_rejectUpdate_ofAnotherProposal() public {
        _propose(_newTerms());
        bytes32 first = _updateHash(_newTerms());
        OrderTerms memory terms = _newTerms();
        terms.duration += 1;
        _propose(terms);
        bytes32 second = _updateHash(terms);
        bytes memory reason = abi.encodeWithSelector(ILeases.OtherUpdateProposed.selector, _orderId, first, second);
        address[2] memory both = [user, _owner];
        for (uint256 index = 0; index < both.length; ++index) {
            vm.expectRevert(reason, address(book));
            vm.prank(both[index]);
            leases.rejectUpdate(_orderId, first);
        }
        assertEq(leases.updateProposal(_orderId).hash, second, "it stands");
    }

    /// @dev Of what is no live lease nothing is proposed: a refusal of it is none, and nobody is told of one.
    function test_rejectUpdate_ofWhatIsNoLiveLease() public {
        _rejectionRefused(_orderId + 1, OrderState.None);
        uint64 openId = _createOrder();
        _rejectionRefused(openId, OrderState.Open);
        _propose(_newTerms());
        uint256 state = vm.snapshotState();

        _close(user, _orderId, OrderState.ClosedByUser);
        _rejectionRefused(_orderId, OrderState.ClosedByUser);
        vm.revertToState(state);

        vm.prank(disputes);
        leases.undoLease(_orderId, _leaseResources(_terms()));
        _rejectionRefused(_orderId, OrderState.ClosedUndone);
        vm.revertToState(state);

        vm.prank(leaseSlasher);
        leases.slashLease(_orderId, 0, _leaseResources(_terms()));
        _rejectionRefused(_orderId, OrderState.ClosedSlashed);
        vm.revertToState(state);

        uint64 updatedId = _accept(_newTerms(), NEW_RATE);
        _rejectionRefused(_orderId, OrderState.ClosedUpdated);
        vm.expectRevert(abi.encodeWithSelector(ILeases.NoUpdateProposed.selector, updatedId), address(book));
        vm.prank(_owner);
        leases.rejectUpdate(updatedId, _updateHash(_newTerms()));
    }

    /// @dev Until somebody closes it, a lease past its end has its proposal still, which nobody can accept any more.
    function test_rejectUpdate_pastTheEnd() public {
        _propose(_newTerms());
        vm.warp(_start + 3_600 + GRACE_WINDOW);
        uint256 state = vm.snapshotState();
        vm.expectEmit(address(book));
        emit ILeases.UpdateRejected(_orderId, _owner);
        vm.prank(_owner);
        leases.rejectUpdate(_orderId, _updateHash(_newTerms()));
        vm.revertToState(state);
        leases.closeLease(_orderId, OrderState.ClosedAtEnd, _leaseResources(_terms()));
        _rejectionRefused(_orderId, OrderState.ClosedAtEnd);
    }

    // ----------------------------------------------------------------- private

    function _rejectionRefused(uint64 orderId, OrderState state) private {
        address[3] memory callers = [user, _owner, address(this)];
        for (uint256 index = 0; index < callers.length; ++index) {
            vm.expectRevert(abi.encodeWithSelector(IOrderBook.WrongState.selector, orderId, state), address(book));
            vm.prank(callers[index]);
            leases.rejectUpdate(orderId, _updateHash(_newTerms()));
        }
    }

    function _proposalRefused(OrderTerms memory terms, uint40 expiry, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(user);
        leases.proposeUpdate(_orderId, terms, expiry);
        assertEq(leases.updateProposal(_orderId).hash, 0, "nothing proposed");
    }

    function _acceptRefused(OrderTerms memory terms, uint96 rate, bytes memory reason) private {
        bytes32 before = _everything();
        vm.expectRevert(reason);
        _accept(terms, rate);
        assertEq(_everything(), before, "everything is as it was");
    }

    /// @dev All that an update touches.
    function _everything() private view returns (bytes32) {
        (uint256 word,,) = book.orderRecord(_orderId);
        (uint256 capacity,,) = book.capacityOf(_provider);
        (uint256 unlocked, uint256 locked, uint32 nonce) = escrow.balances(account, PLAIN_TOKEN);
        uint256 credits = escrow.creditOf(_owner, PLAIN_TOKEN) + escrow.creditOf(foundation, PLAIN_TOKEN);
        return keccak256(abi.encode(word, capacity, unlocked, locked, nonce, credits, leases.updateProposal(_orderId)));
    }

    function _grant(address spender, uint256 limit, uint40 expiry) private {
        vm.prank(user);
        escrow.setSpendingRight(account, spender, PLAIN_TOKEN, SpendingRight(uint112(limit), expiry, true));
    }
}
