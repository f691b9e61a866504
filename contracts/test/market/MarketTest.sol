// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessManager} from "@openzeppelin/contracts/access/manager/AccessManager.sol";
import {ERC1967Proxy} from "@openzeppelin/contracts/proxy/ERC1967/ERC1967Proxy.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {DevelopmentFeed} from "../../src/development/DevelopmentFeed.sol";
import {Escrow} from "../../src/market/Escrow.sol";
import {ILeases} from "../../src/market/ILeases.sol";
import {IOrderBook} from "../../src/market/IOrderBook.sol";
import {OrderBook} from "../../src/market/OrderBook.sol";
import {IPaymentTokens} from "../../src/registry/IPaymentTokens.sol";
import {PaymentTokens} from "../../src/registry/PaymentTokens.sol";
import {ProviderRegistry} from "../../src/registry/ProviderRegistry.sol";
import {StakeManager} from "../../src/stake/StakeManager.sol";
import {Spon} from "../../src/token/Spon.sol";
import {FeeSchedule, LeaseResources, Order, OrderState, OrderTerms} from "../../src/Types.sol";
import {Test} from "../Test.sol";
import {PlainToken} from "./Tokens.sol";
import {TermsHash} from "./TermsHash.sol";

/// @notice The whole market as it is deployed, behind real proxies and a real access manager. Only the task manager is a plain
/// address here: what opens leases is tested in `test/avs`.
abstract contract MarketTest is Test {
    uint16 internal constant BID_WINDOW = 2;
    uint16 internal constant MAXIMUM_BID_WINDOW = 20;
    uint16 internal constant RESPONSE_WINDOW = 50;
    uint16 internal constant MATCH_WINDOW = 30;
    uint32 internal constant CHALLENGE_WINDOW = 600;
    uint32 internal constant GRACE_WINDOW = 120;
    uint32 internal constant LOW_FUNDS_WINDOW = 300;
    uint16 internal constant BID_LIMIT = 512;
    uint16 internal constant PARAMS_VERSION = 1;

    uint128 internal constant MINIMUM_STAKE = 1_000e18;
    uint64 internal constant THAW_PERIOD = 7 days;

    uint96 internal constant MATCH_FEE = 0.01e18;
    uint16 internal constant REBATED_COMMISSION = 1_500;
    uint16 internal constant GATEWAY_SHARE = 1_000;
    uint8 internal constant SPON_TOKEN = 0;
    uint8 internal constant PLAIN_TOKEN = 1;
    /// @dev What new orders in these tokens freeze.
    uint16 internal constant SPON_SCHEDULE = 2;
    uint16 internal constant PLAIN_SCHEDULE = 4;

    AccessManager internal manager;
    Escrow internal escrow;
    OrderBook internal book;
    /// @dev The same address.
    ILeases internal leases;
    PaymentTokens internal tokens;
    ProviderRegistry internal registry;
    StakeManager internal stakes;
    Spon internal spon;
    PlainToken internal plain;
    /// @dev Of every token: a dollar each. Never stale.
    DevelopmentFeed internal feed;

    address internal taskManager = makeAddress("task manager");
    address internal disputes = makeAddress("disputes");
    address internal leaseSlasher = makeAddress("lease slasher");
    address internal foundation = makeAddress("foundation");
    address internal responder = makeAddress("responder");
    address internal user = makeAddress("user");
    uint32 internal account;

    function setUp() public virtual {
        vm.roll(1_000);
        vm.warp(1_800_000_000);
        manager = new AccessManager(address(this));
        spon = new Spon(address(this), 1_000_000_000e18);
        plain = new PlainToken(18);

        feed = new DevelopmentFeed(8, "TOKEN / USD", 1e8);

        address permit2 = _permit2();
        uint256 nonce = vm.getNonce(address(this));
        address predictedBook = vm.computeCreateAddress(address(this), nonce + 1);
        escrow = new Escrow(address(manager), predictedBook, foundation, permit2);
        book = new OrderBook(address(manager), escrow, _parameters());
        leases = ILeases(address(book));
        address predictedStakes = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3);
        registry = ProviderRegistry(
            address(
                new ERC1967Proxy(
                    address(new ProviderRegistry(book)),
                    abi.encodeCall(ProviderRegistry.initialize, (address(manager), StakeManager(predictedStakes)))
                )
            )
        );
        stakes = StakeManager(
            address(
                new ERC1967Proxy(
                    address(new StakeManager(IERC20(address(spon)), registry)),
                    abi.encodeCall(StakeManager.initialize, (address(manager), MINIMUM_STAKE, THAW_PERIOD))
                )
            )
        );
        assertEq(address(stakes), predictedStakes, "stake manager's address was predicted wrong");
        tokens = PaymentTokens(
            address(
                new ERC1967Proxy(
                    address(new PaymentTokens(escrow)), abi.encodeCall(PaymentTokens.initialize, (address(manager)))
                )
            )
        );
        _nameCollaborators();
        _listTokens();
        registry.addRegion("eu-west");
        registry.addRegion("us-east");

        account = escrow.open(user);
        _deposit(account, PLAIN_TOKEN, 1_000_000e18);
        _deposit(account, SPON_TOKEN, 1_000_000e18);
    }

    function _nameCollaborators() private {
        book.proposeCollaborator(IOrderBook.Collaborator.TaskManager, taskManager);
        book.proposeCollaborator(IOrderBook.Collaborator.ProviderRegistry, address(registry));
        book.proposeCollaborator(IOrderBook.Collaborator.PaymentTokens, address(tokens));
        book.proposeCollaborator(IOrderBook.Collaborator.Disputes, disputes);
        book.proposeCollaborator(IOrderBook.Collaborator.Slasher, leaseSlasher);
    }

    /// @dev SPON pays neither of the two facilitation fees.
    function _listTokens() private {
        FeeSchedule memory schedule = FeeSchedule({
            commission: 2_000, userFee: 0, providerFee: 0, gatewayShare: GATEWAY_SHARE, matchFee: MATCH_FEE
        });
        escrow.addFeeSchedule(schedule, REBATED_COMMISSION);
        (schedule.userFee, schedule.providerFee) = (200, 200);
        escrow.addFeeSchedule(schedule, REBATED_COMMISSION);
        _list(address(spon), "SPON", SPON_SCHEDULE);
        _list(address(plain), "PLAIN", PLAIN_SCHEDULE);
    }

    function _list(address token, string memory symbol, uint16 schedule) internal returns (uint8) {
        IPaymentTokens.PriceFeed memory priced =
            IPaymentTokens.PriceFeed(address(feed), type(uint32).max, 1, type(uint128).max);
        return tokens.list(token, symbol, schedule, priced, type(uint128).max);
    }

    /// @dev Tests of deposits through it put the real one there.
    function _permit2() internal virtual returns (address) {
        return makeAddress("permit2");
    }

    function _parameters() internal pure virtual returns (IOrderBook.Parameters memory) {
        return IOrderBook.Parameters({
            bidWindow: BID_WINDOW,
            maximumBidWindow: MAXIMUM_BID_WINDOW,
            responseWindow: RESPONSE_WINDOW,
            matchWindow: MATCH_WINDOW,
            challengeWindow: CHALLENGE_WINDOW,
            graceWindow: GRACE_WINDOW,
            lowFundsWindow: LOW_FUNDS_WINDOW,
            bidLimit: BID_LIMIT,
            paramsVersion: PARAMS_VERSION
        });
    }

    // ------------------------------------------------------------------ users

    function _deposit(uint32 to, uint8 token, uint256 amount) internal {
        if (token == PLAIN_TOKEN) {
            plain.mint(address(this), amount);
            plain.approve(address(escrow), amount);
        } else {
            spon.approve(address(escrow), amount);
        }
        escrow.deposit(to, token, amount);
    }

    /// @dev One CPU, 1 GiB of memory, 1 GiB of storage, 10 tokens an hour at most, one hour.
    function _terms() internal pure returns (OrderTerms memory terms) {
        terms.resources = _resources(100, 64, 4, 0, 0);
        // Provider mode, every tier.
        terms.requirements = (uint256(0xfe) << 8) | (uint256(PARAMS_VERSION) << 88);
        terms.regions = type(uint256).max;
        terms.manifestHash = keccak256("manifest");
        terms.maximumRate = 100e18;
        terms.duration = 3_600;
        terms.wantedSuppliers = new uint32[](0);
        terms.excludedSuppliers = new uint32[](0);
    }

    function _resources(uint256 cpu, uint256 memory_, uint256 storage_, uint256 gpus, uint256 gpuIds)
        internal
        pure
        returns (uint256)
    {
        return storage_ | (memory_ << 22) | (cpu << 42) | (gpus << 62) | (gpuIds << 96);
    }

    function _leaseResources(OrderTerms memory terms) internal pure returns (LeaseResources memory) {
        return LeaseResources(terms.resources, TermsHash.rest(terms));
    }

    function _createOrder() internal returns (uint64 orderId) {
        return _createOrder(_terms());
    }

    function _createOrder(OrderTerms memory terms) internal returns (uint64 orderId) {
        vm.prank(user);
        return book.createOrder(account, PLAIN_TOKEN, 0, terms);
    }

    // -------------------------------------------------------------- providers

    /// @dev Registered, staked, in tier 2 (tier 1 is rebated), with 100 CPUs, 1 TiB of memory, 1 TiB of storage.
    function _addProvider(string memory name) internal returns (address owner, uint32 id) {
        return _addProvider(name, _capacity(10_000, 65_536, 4_096));
    }

    function _addProvider(string memory name, uint256 capacity) internal returns (address owner, uint32 id) {
        owner = makeAddress(name);
        vm.prank(owner);
        id = registry.register(name, "https://provider.example:8443", 1, 0, type(uint32).max);
        _stake(owner, id, MINIMUM_STAKE);
        registry.setVerified(id, 2, type(uint16).max, 0);
        vm.prank(owner);
        book.setCapacity(capacity);
    }

    /// @dev A node behind `provider`, with the same capacity as a provider's.
    function _addFizz(string memory name, uint32 id, uint32 provider) internal returns (address owner) {
        owner = makeAddress(name);
        vm.prank(address(registry));
        book.addSupplier(id, owner, provider);
        vm.prank(owner);
        book.setCapacity(_capacity(10_000, 65_536, 4_096));
    }

    function _stake(address owner, uint32 id, uint256 amount) internal {
        spon.transfer(owner, amount);
        vm.prank(owner);
        spon.approve(address(stakes), amount);
        vm.prank(owner);
        stakes.stake(id, amount);
    }

    /// @dev Capacity word with everything free.
    function _capacity(uint256 cpu, uint256 memory_, uint256 storage_) internal pure returns (uint256) {
        return storage_ | (storage_ << 22) | (memory_ << 44) | (memory_ << 64) | (cpu << 84) | (cpu << 104) | (1 << 252);
    }

    function _withGpus(uint256 capacity, uint256 entry, uint256 id, uint256 count) internal pure returns (uint256) {
        return capacity | ((count | (count << 12) | (id << 24)) << (124 + 32 * entry));
    }

    function _bid(address owner, uint64 orderId, uint96 rate) internal {
        vm.prank(owner);
        book.placeBid(orderId, 0, rate);
    }

    // --------------------------------------------------------------- matching

    function _rank(uint32 provider, uint256 rate) internal pure returns (uint256) {
        return (uint256(provider) << 118) | (rate << 2);
    }

    /// @dev The answer for one order: best first.
    function _matches(uint64 orderId, OrderTerms memory terms, uint256[] memory ranks)
        internal
        pure
        returns (uint256[] memory words)
    {
        if (ranks.length == 0) {
            words = new uint256[](1);
            words[0] = uint256(orderId) << 8;
            return words;
        }
        words = new uint256[](3 + ranks.length);
        words[0] = (uint256(orderId) << 8) | ranks.length;
        words[1] = terms.resources;
        words[2] = uint256(TermsHash.rest(terms));
        for (uint256 index = 0; index < ranks.length; ++index) {
            words[3 + index] = ranks[index];
        }
    }

    function _matches(uint64 orderId, OrderTerms memory terms, uint256 rank) internal pure returns (uint256[] memory) {
        return _matches(orderId, terms, _list(rank));
    }

    function _list(uint256 only) internal pure returns (uint256[] memory list) {
        list = new uint256[](1);
        list[0] = only;
    }

    function _join(uint256[] memory left, uint256[] memory right) internal pure returns (uint256[] memory joined) {
        joined = new uint256[](left.length + right.length);
        for (uint256 index = 0; index < left.length; ++index) {
            joined[index] = left[index];
        }
        for (uint256 index = 0; index < right.length; ++index) {
            joined[left.length + index] = right[index];
        }
    }

    function _openLeases(uint256 closeBlock, uint256[] memory matches) internal {
        vm.prank(taskManager);
        book.openLeases(uint32(closeBlock), matches, responder);
    }

    /// @dev An order with the usual terms, bid on and leased to `provider`, in the block after its close block.
    function _lease(address owner, uint32 provider, uint96 rate) internal returns (uint64 orderId) {
        return _lease(owner, provider, rate, _terms());
    }

    function _lease(address owner, uint32 provider, uint96 rate, OrderTerms memory terms)
        internal
        returns (uint64 orderId)
    {
        orderId = _createOrder(terms);
        _bid(owner, orderId, rate);
        uint256 closeBlock = book.order(orderId).closeBlock;
        vm.roll(closeBlock + 1);
        _openLeases(closeBlock, _matches(orderId, terms, _rank(provider, rate)));
        assertState(orderId, OrderState.Leased);
    }

    function _close(address caller, uint64 orderId, OrderState reason) internal {
        vm.prank(caller);
        leases.closeLease(orderId, reason, _leaseResources(_terms()));
    }

    /// @dev The supplier's part.
    function _claimable(uint64 orderId) internal view returns (uint256 amount) {
        (amount,) = book.claimable(orderId);
    }

    function _ids(uint64 only) internal pure returns (uint64[] memory list) {
        list = new uint64[](1);
        list[0] = only;
    }

    // ------------------------------------------------------------- assertions

    /// @dev The next call fails in the order book itself, not in what it calls.
    function _expectBookError(bytes memory reason) internal {
        vm.expectRevert(reason, address(book));
    }

    function assertState(uint64 orderId, OrderState expected) internal view {
        assertEq(uint256(book.order(orderId).state), uint256(expected), "state of the order");
    }

    function assertBalances(uint32 account_, uint8 token, uint256 unlocked, uint256 locked) internal view {
        (uint256 actualUnlocked, uint256 actualLocked,) = escrow.balances(account_, token);
        assertEq(actualUnlocked, unlocked, "unlocked");
        assertEq(actualLocked, locked, "locked");
    }
}
