//! Error responses that say something about the endpoint (its quota is used up, the key is not valid) and nothing about the
//! call. Another endpoint may answer. What the chain says to a call is the same everywhere, and is never asked for twice.

use alloy_json_rpc::{ErrorPayload, ResponsePacket, ResponsePayload};

/// Codes that no node uses for what a call came to: limits (EIP-1474's, which Infura uses; QuickNode's; of gateways), and
/// HTTP's statuses for limits and keys.
const CODES: [i64; 7] = [-32005, -32007, -32029, 401, 402, 403, 429];

/// How hosted endpoints speak of themselves under codes that nodes use too.
const OF_THE_ENDPOINT: [&str; 16] = [
    "rate limit",
    "rate-limit",
    "ratelimit",
    "too many requests",
    "request limit",
    "request count exceeded",
    "quota",
    "compute units",
    "unauthorized",
    "authentication required",
    "must be authenticated",
    "must authenticate",
    "invalid api key",
    "invalid api-key",
    "api key is not",
    "invalid project id",
];

/// How nodes speak of a call: reverts (with whatever words a contract puts in), the pool's refusals, answers that are too
/// large for the range that was asked for.
const OF_THE_CALL: [&str; 15] = [
    "revert",
    "nonce",
    "insufficient funds",
    "underpriced",
    "already known",
    "already imported",
    "gas",
    "fee cap",
    "opcode",
    "max initcode size",
    "query returned",
    "results",
    "range",
    "block",
    "logs",
];

/// The code of the error with which an endpoint refuses to serve; none for an answer. Of several answers in one, all must be
/// such errors.
pub(super) fn refusal(response: &ResponsePacket) -> Option<i64> {
    let mut first = None;
    for payload in response.payloads() {
        match payload {
            ResponsePayload::Failure(error) if is_of_the_endpoint(error) => first = first.or(Some(error.code)),
            _ => return None,
        }
    }
    first
}

fn is_of_the_endpoint(error: &ErrorPayload) -> bool {
    let text = error.message.to_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    // Code 3 is a revert's, and so are bytes.
    let has_bytes = error.data.as_ref().is_some_and(|data| data.get().starts_with("\"0x"));
    if error.code == 3 || has_bytes || says(&OF_THE_CALL) {
        return false;
    }
    CODES.contains(&error.code) || says(&OF_THE_ENDPOINT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(answer: &serde_json::Value) -> Option<i64> {
        let packet: ResponsePacket = serde_json::from_str(&answer.to_string()).expect("JSON-RPC");
        refusal(&packet)
    }

    fn error(code: i64, message: &str) -> serde_json::Value {
        serde_json::json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}})
    }

    #[test]
    fn what_is_said_of_the_endpoint_is_a_refusal() {
        for (code, message) in [
            (-32005, "daily request count exceeded, request rate limited"),
            (-32005, "project ID request rate exceeded"),
            (-32029, "you are sending too fast"),
            (-32007, "50/second request limit reached - reduce calls per second"),
            (429, "Your app has exceeded its compute units per second capacity."),
            (-32016, "over rate limit"),
            (-32000, "Too Many Requests"),
            (
                -32000,
                "Unauthorized: You must authenticate your request with an API key.",
            ),
            (-32600, "Must be authenticated!"),
            (-32052, "API key is not allowed to access this service"),
            (-32002, "invalid project id"),
            (-32001, "monthly quota used up"),
        ] {
            assert_eq!(refused(&error(code, message)), Some(code), "{message}");
        }
    }

    #[test]
    fn what_is_said_of_the_call_is_an_answer() {
        for (code, message) in [
            (3, "execution reverted: rate limit exceeded"),
            (3, "quota"),
            (-32000, "execution reverted: Unauthorized"),
            (-32000, "nonce too low: next nonce 7, tx nonce 5"),
            (-32003, "insufficient funds for gas * price + value"),
            (-32000, "replacement transaction underpriced"),
            (-32000, "already known"),
            (-32000, "intrinsic gas too low"),
            (-32000, "exceeds block gas limit"),
            (-32005, "query returned more than 10000 results"),
            (-32005, "block range is too large"),
            (-32005, "eth_getLogs is limited to 1000 blocks"),
            (-32601, "the method does not exist"),
            (-32602, "invalid argument 0"),
            (-32603, "internal error"),
            (-32000, "header not found"),
        ] {
            assert_eq!(refused(&error(code, message)), None, "{message}");
        }
        let reverted = serde_json::json!({"jsonrpc": "2.0", "id": 1,
            "error": {"code": -32005, "message": "limited", "data": "0x82b42900"}});
        assert_eq!(refused(&reverted), None);
        let success = serde_json::json!({"jsonrpc": "2.0", "id": 1, "result": "rate limit"});
        assert_eq!(refused(&success), None);
    }

    #[test]
    fn several_answers_are_a_refusal_only_together() {
        let limited = error(429, "limited");
        let success = serde_json::json!({"jsonrpc": "2.0", "id": 2, "result": "0x1"});
        assert_eq!(refused(&serde_json::json!([limited, limited])), Some(429));
        assert_eq!(refused(&serde_json::json!([limited, success])), None);
    }
}
