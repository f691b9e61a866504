//! An endpoint in front of a node, which does not know what waits in the node's pool.

use std::net::SocketAddr;

use alloy::providers::{Provider, RootProvider};
use serde_json::{Value, json};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::quota::{read_call, write_answer};

pub(crate) struct Lagging {
    address: SocketAddr,
}

impl Lagging {
    pub(crate) async fn in_front_of(provider: &RootProvider) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("free port");
        let address = listener.local_addr().expect("address");
        let provider = provider.clone();
        tokio::spawn(async move {
            while let Ok((visitor, _)) = listener.accept().await {
                let provider = provider.clone();
                tokio::spawn(async move { serve(visitor, &provider).await.ok() });
            }
        });
        Self { address }
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}", self.address).parse().expect("URL")
    }
}

/// Passes one call on, unless it asks how many nonces the pool has: none of any key.
async fn serve(visitor: TcpStream, provider: &RootProvider) -> std::io::Result<()> {
    let mut visitor = BufReader::new(visitor);
    let call = read_call(&mut visitor).await?;
    let method = call["method"].as_str().expect("a method").to_owned();
    let asks_the_pool = method == "eth_getTransactionCount" && call["params"][1] == "pending";
    let answered: Result<Value, _> = if asks_the_pool {
        Ok(json!("0x0"))
    } else {
        provider.raw_request(method.into(), call["params"].clone()).await
    };
    let answer = match answered {
        Ok(result) => json!({"jsonrpc": "2.0", "id": call["id"], "result": result}),
        Err(error) => {
            let error = error.as_error_resp().expect("the node answers");
            json!({"jsonrpc": "2.0", "id": call["id"], "error": {"code": error.code, "message": error.message}})
        }
    };
    write_answer(visitor, "200 OK", &answer.to_string()).await
}
