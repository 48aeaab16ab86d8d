//! `changeover certs`: a certificate authority and certificates for development and tests.
//!
//! Not for production: the authority's key lies beside what it signed. Invariants: keys are readable by their owner
//! only; nothing that exists is overwritten unless asked to, and then only what is made here.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::io::clock;

/// How long the certificates are valid.
const VALID_YEARS: i16 = 2;

/// Names that the server's certificate always has.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Arguments of `certs`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// A host name or address for the server's certificate, beside localhost, 127.0.0.1 and ::1; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Make a client certificate as well (mTLS)
    #[arg(long)]
    client: bool,
    /// Overwrite what is there
    #[arg(long)]
    force: bool,
}

/// Why no certificates were made.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// Files of these names exist.
    #[error("{} exists already; --force overwrites it", .0.display())]
    Exists(PathBuf),
    /// A name that no certificate can have.
    #[error("{name:?} cannot be a certificate's name: {reason}")]
    Name {
        /// What was given.
        name: String,
        /// The library's words.
        reason: String,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// Which file.
        file: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Makes the files and lists them.
pub(crate) fn run(args: Args) -> ExitCode {
    match generate(&args.dir, &args.names, args.client, args.force) {
        Ok(files) => {
            for file in files {
                let _ = writeln!(io::stdout(), "{}", file.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes `ca`, `server` and, when asked to, `client` (each `.crt` and `.key`) in `dir`; returns their paths.
///
/// # Errors
/// See [`CertsError`]; nothing is written unless everything could be made.
pub fn generate(dir: &Path, names: &[String], client: bool, force: bool) -> Result<Vec<PathBuf>, CertsError> {
    let mut stems = vec!["ca", "server"];
    stems.extend(client.then_some("client"));
    if !force {
        let mut all = stems.iter().flat_map(|stem| [dir.join(format!("{stem}.crt")), dir.join(format!("{stem}.key"))]);
        if let Some(existing) = all.find(|file| file.exists()) {
            return Err(CertsError::Exists(existing));
        }
    }
    let ca_key = KeyPair::generate()?;
    let ca_params = authority();
    let mut made = vec![("ca", ca_params.self_signed(&ca_key)?.pem(), ca_key.serialize_pem())];
    let issuer = Issuer::new(ca_params, ca_key);
    for stem in stems.iter().skip(1) {
        let key = KeyPair::generate()?;
        let params = if *stem == "server" { server(names)? } else { leaf("changeover development client") };
        made.push((stem, params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()));
    }
    fs::create_dir_all(dir).map_err(|source| CertsError::Write { file: dir.to_owned(), source })?;
    let mut files = Vec::new();
    for (stem, cert, key) in made {
        files.push(write(dir.join(format!("{stem}.crt")), &cert, 0o644)?);
        files.push(write(dir.join(format!("{stem}.key")), &key, 0o600)?);
    }
    Ok(files)
}

fn authority() -> CertificateParams {
    let mut params = dated(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, "changeover development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server(names: &[String]) -> Result<CertificateParams, CertsError> {
    let mut params = leaf("changeover development server");
    let local = LOCAL_NAMES.iter().map(|name| (*name).to_owned());
    for name in local.chain(names.iter().cloned()) {
        let one = CertificateParams::new([name.clone()])
            .map_err(|error| CertsError::Name { name, reason: error.to_string() })?;
        params.subject_alt_names.extend(one.subject_alt_names);
    }
    // Redis uses one certificate for both ends of replication, so this one serves as a client's too.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn leaf(name: &str) -> CertificateParams {
    let mut params = dated(CertificateParams::default());
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// Valid from yesterday, so that a clock that is a little behind accepts it.
fn dated(mut params: CertificateParams) -> CertificateParams {
    let seconds = i64::try_from(clock::unix_millis() / 1000).unwrap_or_default();
    let now = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = day(now.yesterday().unwrap_or(now));
    params.not_after = day(now.saturating_add(jiff::Span::new().years(VALID_YEARS)));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn write(file: PathBuf, content: &str, mode: u32) -> Result<PathBuf, CertsError> {
    let written = (|| {
        // A new file, so that the mode is ours and not that of what was there.
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&file)?;
        opened.write_all(content.as_bytes())
    })();
    written.map_err(|source| CertsError::Write { file: file.clone(), source })?;
    Ok(file)
}

#[cfg(test)]
mod tests;
