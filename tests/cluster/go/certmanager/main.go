// Command certmanager is cert-manager in one program: its controllers or its webhook, chosen by the first argument.
// cert-manager publishes its packages but not the commands it is shipped as, so they are put together here as those
// commands do it. It is only ever started by the tests.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: certmanager controllers|webhook FLAGS")
		os.Exit(2)
	}
	var err error
	switch program := os.Args[1]; program {
	case "controllers":
		err = controllers(os.Args[2:])
	case "webhook":
		err = webhook(os.Args[2:])
	default:
		err = fmt.Errorf("there is no program %q; there are controllers and webhook", program)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
