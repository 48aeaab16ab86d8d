//! What an operator needs to reach processes beyond this machine: whom to trust, what to show.
//!
//! Reads files; `client` uses them. Invariant: a token is sent only inside TLS that was verified.

use std::sync::Arc;

use crate::config::{AdminAddress, AdminLogin, Secret, UpstreamTls, admin_token};
use crate::io::admin::client::AdminClient;
use crate::io::tls::UpstreamSide;

/// It, read.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Whom to trust, and the certificate to show.
    pub(super) tls: Option<Arc<UpstreamSide>>,
    /// The token to show.
    pub(super) token: Option<Arc<Secret>>,
}

impl Access {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(login: &AdminLogin) -> Result<Self, String> {
        let tls = login.ca.clone().map(|ca| {
            let files = UpstreamTls { ca, client: login.client.clone(), server_name: None };
            UpstreamSide::load(files).map(Arc::new).map_err(|error| error.to_string())
        });
        let token = login.token_file.as_deref().map(admin_token);
        Ok(Self { tls: tls.transpose()?, token: token.transpose()?.map(Arc::new) })
    }

    /// A client for the process there.
    pub fn client(&self, at: &AdminAddress) -> AdminClient {
        AdminClient::new(at.clone()).with(self.clone())
    }
}
