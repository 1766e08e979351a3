//! A real Kubernetes control plane and a real cert-manager, without containers.
