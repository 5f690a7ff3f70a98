// Flower's page of workers has this in the page itself, where no script may stand.
var autorefresh = 1;
