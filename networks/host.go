package networks

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// ParseHost reads a host name and returns it in lower case (RFC 1123, 2.1;
// lengths by RFC 1035, 2.3.4). The first label may be a wildcard (RFC 4592).
func ParseHost(s string) (string, error) {
	host := strings.ToLower(s)
	if err := checkHost(host, false); err != nil {
		return "", fmt.Errorf("host %q: %w", s, err)
	}
	return host, nil
}

const (
	maxHost  = 253 // characters of 255 octets on the wire
	maxLabel = 63
)

// checkHost takes lower case. Underscores stand in names that are no hosts
// (RFC 8552).
func checkHost(host string, underscore bool) error {
	switch {
	case host == "":
		return errors.New("it is empty")
	case len(host) > maxHost:
		return fmt.Errorf("it has %d characters, a name may have %d", len(host), maxHost)
	case strings.Contains(host, "://"):
		return errors.New("it is a URL: write the host alone")
	case strings.HasSuffix(host, "."):
		return errors.New("it ends with a dot: leave the dot out")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return errors.New("it is an address: write a name")
	}
	labels := strings.Split(strings.TrimPrefix(host, "*."), ".")
	for _, label := range labels {
		if err := checkLabel(label, underscore); err != nil {
			return err
		}
	}
	// A last label of digits makes a client read the whole as an address.
	// https://url.spec.whatwg.org/#ends-in-a-number-checker
	if last := labels[len(labels)-1]; strings.Contains(host, ".") && strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("its last part, %q, is a number: a name ends in a domain", last)
	}
	return nil
}

func checkLabel(label string, underscore bool) error {
	switch {
	case label == "":
		return errors.New("it has an empty part between dots")
	case len(label) > maxLabel:
		return fmt.Errorf("the part %q has %d characters, a part may have %d", label, len(label), maxLabel)
	case label == "*":
		return errors.New("a wildcard is the first part of a longer name: *.example.com")
	}
	for _, c := range label {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_' && underscore:
		case c >= 0x80:
			return fmt.Errorf("the part %q has letters beyond ASCII: write it in punycode (xn--...), as `idn2` prints it", label)
		default:
			return fmt.Errorf("the part %q holds %q: letters, digits and - may be in it", label, c)
		}
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return fmt.Errorf("the part %q begins or ends with -", label)
	}
	return nil
}
