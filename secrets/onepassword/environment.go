package onepassword

import "skep/secrets"

// HostVariable has the address of Connect.
const HostVariable = "OP_CONNECT_HOST"

// FromEnvironment is the server that the environment names, for a program that
// calls itself agent; nil where it names none.
func FromEnvironment(lookup func(string) (string, bool), agent string) (secrets.Source, error) {
	host, _ := lookup(HostVariable)
	if host == "" {
		return nil, nil
	}
	token, err := TokenFrom(lookup)
	if err != nil {
		return nil, err
	}
	client, err := New(host, token, Config{UserAgent: agent})
	if err != nil {
		return nil, err // not client: a nil pointer in an interface is something
	}
	return client, nil
}
