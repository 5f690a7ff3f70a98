"""The conformance kit: the checks that the built-in families pass, for any family and any program.

    pytest --pyargs nightshift.testing --family resnet --framework torch
    pytest --pyargs nightshift.testing --program walk

`nightshift families check NAME` and `nightshift programs check NAME` run the same and write a report. It needs
`nightshift[testing]`. A family and a program say how to try them by their `trial`.
"""
