// Command istio is Istio in one program: its first argument chooses istiod's pilot-discovery or the agent pilot-agent,
// whose own command line follows. Istio ships each as a command of its own; one program is linked once and compiles
// what they share once. It is only ever started by the tests and by deploy/try.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	mesh "istio.io/api/mesh/v1alpha1"

	agent "istio.io/istio/pilot/cmd/pilot-agent/app"
	discovery "istio.io/istio/pilot/cmd/pilot-discovery/app"
	istioagent "istio.io/istio/pkg/istio-agent"
	"istio.io/istio/pkg/log"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/sds"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: istio pilot-discovery|pilot-agent ARGUMENTS")
		os.Exit(2)
	}
	program := os.Args[1]
	os.Args = os.Args[1:]
	log.EnableKlogWithCobra()
	var command *cobra.Command
	switch program {
	case "pilot-discovery":
		command = discovery.NewRootCommand()
	case "pilot-agent":
		command = agent.NewRootCommand(secrets)
	default:
		fmt.Fprintf(os.Stderr, "there is no program %q; there are pilot-discovery and pilot-agent\n", program)
		os.Exit(2)
	}
	if err := command.Execute(); err != nil {
		log.Error(err)
		os.Exit(1)
	}
}

// secrets serves Envoy the agent's own certificates.
func secrets(options *security.Options, cache security.SecretManager, provider *mesh.PrivateKeyProvider) istioagent.SDSService {
	return sds.NewServer(options, cache, provider)
}
