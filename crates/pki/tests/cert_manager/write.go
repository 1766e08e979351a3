//go:build ignore

// Writes the CSRs beside it, as cert-manager's own code makes them of Certificates, with every gate on that adds to
// them. Their keys are thrown away.
//
//	cd tests/cluster/go/certmanager && go run ../../../../crates/pki/tests/cert_manager/write.go ../../../../crates/pki/tests/cert_manager
package main

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"log"
	"os"
	"path/filepath"

	cm "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	"github.com/cert-manager/cert-manager/pkg/util/pki"
)

const upn = "1.3.6.1.4.1.311.20.2.3"

func ec(size int) *cm.CertificatePrivateKey {
	return &cm.CertificatePrivateKey{Algorithm: cm.ECDSAKeyAlgorithm, Size: size}
}

var certificates = map[string]cm.CertificateSpec{
	"rsa": {DNSNames: []string{"a.example.com", "*.b.example.com"}},
	"every-kind-of-name": {
		CommonName:     "a.example.com",
		DNSNames:       []string{"a.example.com"},
		IPAddresses:    []string{"10.0.0.1", "2001:db8::1"},
		URIs:           []string{"https://example.com/a", "urn:example:b"},
		EmailAddresses: []string{"alice@example.com"},
		OtherNames:     []cm.OtherName{{OID: upn, UTF8Value: "upn@example.com"}},
		PrivateKey:     ec(256),
		Usages:         []cm.KeyUsage{cm.UsageDigitalSignature, cm.UsageServerAuth, cm.UsageClientAuth},
	},
	"workload": {
		URIs:       []string{"spiffe://example.com/ns/shop/sa/web"},
		PrivateKey: ec(384),
		Usages:     []cm.KeyUsage{cm.UsageDigitalSignature, cm.UsageClientAuth},
	},
	"ed25519": {
		DNSNames:   []string{"a.example.com"},
		PrivateKey: &cm.CertificatePrivateKey{Algorithm: cm.Ed25519KeyAlgorithm},
		Usages:     []cm.KeyUsage{cm.UsageSigning},
	},
	"subject": {
		CommonName: "Müller GmbH",
		DNSNames:   []string{"a.example.com"},
		PrivateKey: ec(256),
		Subject: &cm.X509Subject{
			Organizations:       []string{"Example, Inc.", "Second"},
			OrganizationalUnits: []string{"Payments"},
			Countries:           []string{"DE"},
			SerialNumber:        "7",
		},
	},
	"literal-subject": {
		LiteralSubject: "CN=payments service,OU=Two,OU=One,O=Corp.,DC=corp,DC=example",
		DNSNames:       []string{"a.example.com"},
		PrivateKey:     ec(256),
	},
	"ca": {
		CommonName: "Team CA",
		IsCA:       true,
		PrivateKey: ec(384),
		Usages:     []cm.KeyUsage{cm.UsageDigitalSignature, cm.UsageCertSign, cm.UsageCRLSign},
		NameConstraints: &cm.NameConstraints{
			Critical:  true,
			Permitted: &cm.NameConstraintItem{DNSDomains: []string{"team.example.com"}, IPRanges: []string{"10.1.0.0/16"}},
			Excluded:  &cm.NameConstraintItem{EmailAddresses: []string{"example.com"}},
		},
	},
	"ca-of-no-usages": {CommonName: "Team CA", IsCA: true, PrivateKey: ec(256)},
	"without-usages": {
		DNSNames:              []string{"a.example.com"},
		PrivateKey:            ec(256),
		EncodeUsagesInRequest: new(bool),
		Usages:                []cm.KeyUsage{cm.UsageServerAuth},
	},
	"many-usages": {
		DNSNames:   []string{"a.example.com"},
		PrivateKey: &cm.CertificatePrivateKey{Algorithm: cm.RSAKeyAlgorithm, Size: 3072},
		Usages: []cm.KeyUsage{
			cm.UsageSigning, cm.UsageContentCommitment, cm.UsageKeyEncipherment, cm.UsageDataEncipherment,
			cm.UsageServerAuth, cm.UsageCodeSigning, cm.UsageEmailProtection, cm.UsageTimestamping, cm.UsageAny,
		},
	},
}

func main() {
	for name, spec := range certificates {
		if err := write(filepath.Join(os.Args[1], name+".pem"), &cm.Certificate{Spec: spec}); err != nil {
			log.Fatalf("%s: %v", name, err)
		}
	}
}

func write(file string, certificate *cm.Certificate) error {
	request, err := pki.GenerateCSR(certificate,
		pki.WithUseLiteralSubject(true), pki.WithEncodeBasicConstraintsInRequest(true),
		pki.WithNameConstraints(true), pki.WithOtherNames(true))
	if err != nil {
		return err
	}
	var key crypto.Signer
	if key, err = pki.GeneratePrivateKeyForCertificate(certificate); err != nil {
		return err
	}
	der, err := pki.EncodeCSR(request, key)
	if err != nil {
		return err
	}
	if _, err = x509.ParseCertificateRequest(der); err != nil {
		return err
	}
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o644)
}
