package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
)

// Settings of an engine elsewhere.
const (
	addressSetting = "SKEP_HATCHET_ADDRESS" // host:port
	tokenSetting   = "SKEP_HATCHET_TOKEN"   // or a file with it, in SKEP_HATCHET_TOKEN_FILE
	tlsSetting     = "SKEP_HATCHET_TLS"     // on, or off
)

// AddressFrom reads where an engine is from settings, such as os.LookupEnv.
func AddressFrom(get func(name string) (string, bool)) (Address, error) {
	address, _ := get(addressSetting)
	host, port, err := net.SplitHostPort(address)
	number, e := strconv.ParseUint(port, 10, 16)
	if err != nil || e != nil || host == "" {
		return Address{}, fmt.Errorf("%s is %q, not host:port", addressSetting, address)
	}
	a := Address{Host: host, Port: int(number)}
	a.Token, _ = get(tokenSetting)
	if file, _ := get(tokenSetting + "_FILE"); a.Token == "" && file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return Address{}, fmt.Errorf("read %s_FILE: %w", tokenSetting, err)
		}
		a.Token = strings.TrimSpace(string(content))
	}
	if a.Token == "" {
		return Address{}, errors.New("the workflow engine at " + address + " wants a token: set " + tokenSetting + "_FILE")
	}
	switch v, _ := get(tlsSetting); v {
	case "", "off":
	case "on":
		a.TLS = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	default:
		return Address{}, fmt.Errorf("%s is %q, neither on nor off", tlsSetting, v)
	}
	return a, nil
}
