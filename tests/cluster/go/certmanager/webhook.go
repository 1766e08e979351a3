package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/spf13/pflag"

	webhooktest "github.com/cert-manager/cert-manager/test/webhook"

	"github.com/cert-manager/cert-manager/pkg/webhook/server"
)

// webhook runs cert-manager's admission webhook until it is killed. It prints the line "ready" once it listens. What
// starts it is public only for Go tests, so this is one: the webhook itself is the one that is shipped.
func webhook(arguments []string) error {
	flags := pflag.NewFlagSet("webhook", pflag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server, and as whom")
	port := flags.Int("secure-port", 0, "where to listen")
	certificate := flags.String("tls-cert-file", "", "the certificate to serve with")
	key := flags.String("tls-private-key-file", "", "its private key")
	gates := flags.String("feature-gates", "", "NAME=true or NAME=false, separated by commas")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if *port == 0 || *certificate == "" || *key == "" {
		return errors.New("--secure-port, --tls-cert-file and --tls-private-key-file are needed")
	}
	// The test framework reads the program's arguments. Verbose, or what the webhook logs is kept in memory.
	os.Args = []string{os.Args[0], "-test.v"}
	serve := func(t *testing.T) {
		webhooktest.StartWebhookServer(t, []string{
			"--kubeconfig", *kubeconfig, "--tls-cert-file", *certificate, "--tls-private-key-file", *key,
			"--feature-gates", *gates,
		}, func(s *server.Server) { s.ListenAddr = *port })
		fmt.Println("ready")
		select {}
	}
	testing.Main(regexp.MatchString, []testing.InternalTest{{Name: "webhook", F: serve}}, nil, nil)
	return errors.New("the webhook ended")
}
