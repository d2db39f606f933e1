package httpapi

import (
	"strings"
	"testing"
)

func TestCheckURL(t *testing.T) {
	const form, clear = "of the form", "must begin with https://"
	for url, want := range map[string]string{
		"https://192.168.1.1": "", "https://unifi.example.com:8443": "", "https://api.example.com/v4": "",
		"http://127.0.0.1:8080": "", "http://[::1]": "", "http://localhost:80": "",
		"http://192.168.1.1": clear, "http://localhost.example.com": clear, "http://unifi": clear, "http://127.0.0.1@example.com": clear,
		"ftp://127.0.0.1": form, "https://": form, "192.168.1.1": form, "": form, "https://a b": form,
	} {
		err := CheckURL(url)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", url, err, want)
		}
	}
}
