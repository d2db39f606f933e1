package salesforce

import (
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"skep/secrets"
)

// platformCLI is the connected app of Salesforce's own command line, which a
// short auth URL stands for. It has no secret.
const platformCLI = "PlatformCLI"

// AuthURL is an SFDX auth URL, taken apart.
type AuthURL struct {
	ClientID     string
	ClientSecret secrets.Value // may be empty
	RefreshToken secrets.Value
	LoginURL     string // https://<host>
}

// ParseAuthURL takes what sf org display --verbose shows:
//
//	force://<client id>:<client secret>:<refresh token>@<host>
//	force://<client id>::<refresh token>@<host>
//	force://<refresh token>@<host>
//
// or the JSON that the command writes, with the URL in sfdxAuthUrl, alone or
// within result. The error has nothing of the input, which is a secret.
func ParseAuthURL(text []byte) (AuthURL, error) {
	raw := strings.TrimSpace(string(text))
	if strings.HasPrefix(raw, "{") {
		var file struct {
			URL    string `json:"sfdxAuthUrl"`
			Result struct {
				URL string `json:"sfdxAuthUrl"`
			} `json:"result"`
		}
		if err := json.Unmarshal([]byte(raw), &file); err != nil {
			return AuthURL{}, errors.New("the SFDX auth URL looks like JSON and is none")
		}
		if raw = file.URL; raw == "" {
			raw = file.Result.URL
		}
	}
	rest, ok := strings.CutPrefix(raw, "force://")
	if !ok {
		return AuthURL{}, errors.New("an SFDX auth URL begins with force://; sf org display --verbose shows it")
	}
	at := strings.LastIndexByte(rest, '@')
	if at < 0 {
		return AuthURL{}, errors.New("the SFDX auth URL has no @host at its end")
	}
	host := strings.TrimSuffix(rest[at+1:], "/")
	if u, err := url.Parse("https://" + host); err != nil || host == "" || u.Host != host || u.Hostname() == "" {
		return AuthURL{}, errors.New("the SFDX auth URL ends with something that is no host: write it without https:// and without a path")
	}
	parts := strings.Split(rest[:at], ":")
	if len(parts) == 1 {
		parts = []string{platformCLI, "", parts[0]}
	}
	if len(parts) != 3 || parts[0] == "" || parts[2] == "" || strings.ContainsFunc(rest[:at], notInAuthURL) {
		return AuthURL{}, errors.New("the SFDX auth URL is not of the form force://<client id>:<client secret>:<refresh token>@<host>")
	}
	return AuthURL{
		ClientID:     parts[0],
		ClientSecret: secrets.NewValue([]byte(parts[1])),
		RefreshToken: secrets.NewValue([]byte(parts[2])),
		LoginURL:     "https://" + host,
	}, nil
}

func notInAuthURL(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '@' }
