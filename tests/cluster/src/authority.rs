//! The cluster's own certificates: one CA, the API server's and a webhook's certificate, certificates of users, and the
//! key that signs the tokens of service accounts.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, SanType, date_time_ymd,
};

use crate::Result;

/// A CA in a folder, for one cluster.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key, as PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// Makes the CA, the API server's certificate and the key of tokens.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let mut params = empty("cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let authority = Self { folder: folder.to_owned(), issuer };
        fs::write(authority.file("ca.crt"), authority.issuer.pem())?;
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        authority.write("apiserver", &authority.server("kube-apiserver", &names)?)?;
        // Tokens are signed with RSA, as in a cluster that kubeadm made.
        let tokens = KeyPair::generate_for(&PKCS_RSA_SHA256)?;
        fs::write(authority.file("service-accounts.key"), tokens.serialize_pem())?;
        fs::write(authority.file("service-accounts.pub"), tokens.public_key_pem())?;
        Ok(authority)
    }

    /// A file of this name in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The CA's certificate, as PEM.
    pub(crate) fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server on loopback, with these names too.
    pub(crate) fn server(&self, common_name: &str, names: &[&str]) -> Result<Pair> {
        let mut params = empty(common_name);
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        // 10.0.0.1 is where the API server would be for pods.
        for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)] {
            params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// A certificate by which the API server knows a user and its groups.
    pub(crate) fn user(&self, name: &str, groups: &[&str]) -> Result<Pair> {
        let mut params = empty(name);
        // rcgen keeps one value of each kind.
        match groups {
            [] => {}
            [group] => params.distinguished_name.push(DnType::OrganizationName, *group),
            _ => return Err("a certificate here names one group; take a service account for more".into()),
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, name: &str, pair: &Pair) -> Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
        fs::write(&certificate, &pair.certificate)?;
        fs::write(&key, &pair.key)?;
        Ok((certificate, key))
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn empty(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // Longer than any run, whatever the machine's clock says.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2049, 1, 1);
    params
}
